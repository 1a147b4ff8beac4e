/**
 * Altered versions of a picture, the same ones that Python makes (`vision/augmentation.py`):
 * mirrored (1/2), a crop of 80 to 100 % of the area and 0.9 to 1.1 times the aspect, other colours.
 *
 * Which alterations follows from the encoded picture, the seed and the number of the version. It is
 * drawn as torchvision's v2 draws it with PyTorch's generator, and done as Pillow does it, in
 * floats of 32 bits where those have them (`fround`).
 */

import { hashImage } from "./blake2b.js";
import { resize } from "./resizing.js";

const { fround } = Math;

/**
 * Make a version of a picture, of (size, size) pixels.
 *
 * @param {{width: number, height: number, data: Uint8Array}} image - its pixels, upright
 * @param {number} size
 * @param {Uint8Array} encoded - the picture as a file
 * @param {{seed: number|bigint, number: number}} version
 */
export function alter(image, size, encoded, { seed, number }) {
  const chosen = alteration(image, encoded, { seed, number });
  const altered = resize(image, size, chosen.box);
  for (const step of chosen.order) COLOURS[step](altered.data, chosen.factors[step]);
  if (chosen.mirrored) mirror(altered);
  return altered;
}

/**
 * What a version does to a picture: its box, the order and the factors of colours, mirrored or not.
 */
export function alteration({ width, height }, encoded, { seed, number }) {
  const more = new TextEncoder().encode(`(${seed}, ${number})`);
  const bytes = new Uint8Array(encoded.length + more.length);
  bytes.set(encoded);
  bytes.set(more, encoded.length);
  const random = generator(Number((hashImage(bytes) >> 1n) & 0xffffffffn));
  const uniform = (from, to) => {
    const [low, high] = [fround(from), fround(to)];
    return fround((random() % 2 ** 24) * 2 ** -24 * fround(high - low) + low);
  };
  const box = drawBox(width, height, uniform, (below) => random() % below);
  const order = [0, 1, 2, 3];
  for (let i = 0; i < 3; i++) {
    const other = i + (random() % (4 - i));
    [order[i], order[other]] = [order[other], order[i]];
  }
  const factors = [0, 1, 2].map(() => uniform(0.8, 1.2));
  factors.push(uniform(-0.02, 0.02));
  return { box, order, factors, mirrored: uniform(0, 1) < 0.5 };
}

/** RandomResizedCrop. */
function drawBox(width, height, uniform, whole) {
  const aspect = width / height, ratio = [0.9 * aspect, 1.1 * aspect];
  const logs = ratio.map((one) => fround(Math.log(fround(one))));
  for (let attempt = 0; attempt < 10; attempt++) {
    const area = width * height * uniform(0.8, 1), drawn = fround(Math.exp(uniform(...logs)));
    const box = { width: even(Math.sqrt(area * drawn)), height: even(Math.sqrt(area / drawn)) };
    if (box.width > 0 && box.width <= width && box.height > 0 && box.height <= height) {
      const top = whole(height - box.height + 1);
      return { left: whole(width - box.width + 1), top, ...box };
    }
  }
  return { left: 0, top: 0, width, height };
}

/** The nearest whole number, of two the even one. */
function even(value) {
  const below = Math.floor(value), rest = value - below;
  return below + (rest > 0.5 || (rest === 0.5 && below % 2) ? 1 : 0);
}

/** MT19937 (Matsumoto and Nishimura, 1998), as PyTorch has it: whole numbers below 2^32. */
export function generator(seed) {
  const state = new Uint32Array(624);
  state[0] = seed;
  for (let i = 1; i < 624; i++) {
    state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
  }
  let at = 624;
  const twist = () => {
    for (let i = 0; i < 624; i++) {
      const both = (state[i] & 0x80000000) | (state[(i + 1) % 624] & 0x7fffffff);
      state[i] = state[(i + 397) % 624] ^ (both >>> 1) ^ (both & 1 ? 0x9908b0df : 0);
    }
    at = 0;
  };
  return () => {
    if (at === 624) twist();
    let word = state[at++];
    word ^= word >>> 11;
    word ^= (word << 7) & 0x9d2c5680;
    word ^= (word << 15) & 0xefc60000;
    return (word ^ (word >>> 18)) >>> 0;
  };
}

// Brightness, contrast, saturation and hue, each changing pixels in their place.
const COLOURS = [
  (data, factor) => data.forEach((value, i) => (data[i] = blend(0, value, factor))),
  (data, factor) => {
    let sum = 0;
    for (let i = 0; i < data.length; i += 3) sum += grey(data, i);
    const mean = Math.trunc(sum / (data.length / 3) + 0.5);
    data.forEach((value, i) => (data[i] = blend(mean, value, factor)));
  },
  (data, factor) => {
    for (let i = 0; i < data.length; i += 3) {
      const level = grey(data, i);
      for (let j = i; j < i + 3; j++) data[j] = blend(level, data[j], factor);
    }
  },
  (data, factor) => {
    const shift = Math.trunc(factor * 255) & 255;
    for (let i = 0; i < data.length; i += 3) data.set(turned(data, i, shift), i);
  },
];

function grey(data, i) {
  return (data[i] * 19595 + data[i + 1] * 38470 + data[i + 2] * 7471 + 0x8000) >> 16;
}

/** Pillow's ImageEnhance: of two values, `factor` of the second and the rest of the first. */
function blend(first, second, factor) {
  const value = fround(first + fround(factor * (second - first)));
  return Math.trunc(Math.min(Math.max(value, 0), 255));
}

/** A pixel whose hue is shifted by 255ths of the circle: to HSV in 8 bits, and back, as Pillow. */
function turned(data, i, shift) {
  const [red, green, blue] = data.subarray(i, i + 3);
  const value = Math.max(red, green, blue), range = value - Math.min(red, green, blue);
  const saturation = range ? Math.trunc(fround(range / value) * 255) : 0;
  if (!saturation) return [value, value, value];
  const [r, g, b] = [red, green, blue].map((one) => fround((value - one) / range));
  const side = fround(value === red ? fround(b - g) : value === green ? 2 + r - b : 4 + g - r);
  const hue = (Math.trunc(fround((side / 6 + 1) % 1) * 255) + shift) & 255;
  const sixth = Math.floor((hue * 6) / 255), rest = fround((hue * 6) / 255 - sixth);
  const share = fround(saturation / 255);
  const [p, q, t] = [share, fround(share * rest), share * (1 - rest)].map((less) =>
    Math.floor(value * (1 - less) + 0.5),
  );
  return [[value, t, p], [q, value, p], [p, value, t], [p, q, value], [t, p, value], [value, p, q]][
    sixth % 6
  ];
}

function mirror({ width, height, data }) {
  for (let y = 0; y < height; y++) {
    for (let left = 0, right = width - 1; left < right; left++, right--) {
      for (let colour = 0; colour < 3; colour++) {
        const [a, b] = [3 * (y * width + left) + colour, 3 * (y * width + right) + colour];
        [data[a], data[b]] = [data[b], data[a]];
      }
    }
  }
}
