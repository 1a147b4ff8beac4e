/**
 * From a picture's file to its pixels as a viewer shows them: upright by EXIF, transparent places
 * on white, colours as its own profile means them; as `data/images.py` does it in Python.
 *
 * A file is foreign input: its format, its size and its end are read from its bytes before the
 * browser decodes anything, so that none fills the memory.
 */

// As in Python (`data/table.py`).
const MAX_BYTES = 128e6, MAX_PIXELS = 64e6;
const STRIP = 1 << 20; // pixels that are drawn and read at a time

/** A file that is no picture that can be used; its words name it, for whoever chose it alone. */
export class PictureError extends Error {}

/**
 * Decode a picture.
 *
 * @param {Blob} file
 * @param {{name?: string}} options - what to call it in an error
 * @returns {Promise<{width: number, height: number, data: Uint8Array}>} RGB, row by row
 * @throws {PictureError}
 */
export async function decode(file, { name = file.name ?? "the picture" } = {}) {
  const { width, height, type, profile } = await check(file, { name });
  let bitmap;
  try {
    bitmap = await createImageBitmap(file.slice(0, file.size, type), {
      colorSpaceConversion: profile ? "default" : "none",
      imageOrientation: "from-image",
    });
  } catch {
    throw new PictureError(`${name}: is damaged, so it cannot be read; leave it out`);
  }
  try {
    if (bitmap.width * bitmap.height !== width * height) {
      throw new PictureError(`${name}: has another size than it says; leave it out`);
    }
    return pixels(bitmap);
  } finally {
    bitmap.close();
  }
}

/**
 * What a file says of itself: `{width, height, type, profile}`, before it is turned upright.
 *
 * @throws {PictureError} if it is neither JPEG nor PNG, is cut off, or too large
 */
export async function check(file, { name = file.name ?? "the picture" } = {}) {
  if (file.size > MAX_BYTES) {
    throw new PictureError(`${name}: has ${file.size} bytes; ${MAX_BYTES} are the most`);
  }
  const bytes = new Uint8Array(await file.arrayBuffer());
  const view = new DataView(bytes.buffer);
  let said;
  try {
    said = jpeg(bytes, view) ?? png(bytes, view);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new PictureError(`${name}: is cut off; leave it out, or take it from its source again`);
  }
  if (!said) throw new PictureError(`${name}: is not a JPEG or PNG picture`);
  if (!said.width || !said.height || said.width * said.height > MAX_PIXELS) {
    const size = `${said.width} x ${said.height}`;
    throw new PictureError(`${name}: has ${size} pixels; ${MAX_PIXELS / 1e6} million are the most`);
  }
  return said;
}

// Each of these gives null for another format; it reads past the end (RangeError) if that is cut
// off.

/** Segments up to the first frame (ITU T.81, annex B); the end of the image comes after it. */
function jpeg(bytes, view) {
  if (view.byteLength < 3 || text(bytes, 0, 3) !== "\xff\xd8\xff") return null;
  let profile = false;
  for (let at = 2; ; ) {
    while (view.getUint8(at + 1) === 0xff) at++; // padding
    const marker = view.getUint8(at + 1), length = view.getUint16(at + 2);
    if (view.getUint8(at) !== 0xff) throw new RangeError();
    profile ||= marker === 0xe2 && text(bytes, at + 4, 11) === "ICC_PROFILE";
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      for (let end = bytes.length - 2; ; end--) {
        if (end <= at) throw new RangeError();
        if (bytes[end] === 0xff && bytes[end + 1] === 0xd9) break;
      }
      const [height, width] = [view.getUint16(at + 5), view.getUint16(at + 7)];
      return { width, height, type: "image/jpeg", profile };
    }
    at += 2 + length;
  }
}

/** Chunks to the end (PNG 1.2). */
function png(bytes, view) {
  if (view.byteLength < 8 || text(bytes, 0, 8) !== "\x89PNG\r\n\x1a\n") return null;
  let profile = false, kind = "";
  for (let at = 8; kind !== "IEND"; at += 12 + view.getUint32(at)) {
    kind = text(bytes, at + 4, 4);
    profile ||= kind === "iCCP";
    view.getUint32(at + 8 + view.getUint32(at)); // its checksum
  }
  return { width: view.getUint32(16), height: view.getUint32(20), type: "image/png", profile };
}

function text(bytes, start, length) {
  return String.fromCharCode(...bytes.subarray(start, start + length));
}

/** The pixels of a bitmap on white, strip by strip, so that there is no second copy of it. */
export function pixels(bitmap) {
  const { width, height } = bitmap, data = new Uint8Array(3 * width * height);
  const rows = Math.min(height, Math.max(1, Math.floor(STRIP / width)));
  const canvas = new OffscreenCanvas(width, rows).getContext("2d", { willReadFrequently: true });
  canvas.fillStyle = "white";
  for (let top = 0; top < height; top += rows) {
    canvas.fillRect(0, 0, width, rows);
    canvas.drawImage(bitmap, 0, -top);
    const strip = canvas.getImageData(0, 0, width, Math.min(rows, height - top)).data;
    for (let from = 0, to = 3 * top * width; from < strip.length; from += 4) {
      data[to++] = strip[from];
      data[to++] = strip[from + 1];
      data[to++] = strip[from + 2];
    }
  }
  return { width, height, data };
}
