/** Who masks with whom and how few may answer, as celeba_fl/privacy/graph.py derives it. */
export const COMPLETE = 20;
export const SHARE = 0.1;
const SECRECY = 40n; // chances as powers of 1/2
const LOSS = 20n;
const known = new Map();

/** `{degree, threshold}` of an exchange of so many clients. */
export function plan(number) {
  if (!known.has(number)) known.set(number, form(number));
  return known.get(number);
}

function form(number) {
  const colluding = Math.floor(SHARE * number);
  const gone = 2 * colluding;
  const rare = (ways, all, chance) => ways << chance <= all;
  for (let degree = 2; number > COMPLETE && degree < number - 1; degree += 2) {
    const all = choose(number - 1, degree);
    const loses = (least, chance) =>
      rare(BigInt(number) * tail(number - 1, colluding, degree, least), all, chance);
    let threshold = Math.floor((degree + 1) / 2) + 1;
    while (threshold <= degree && !loses(threshold, SECRECY)) threshold++;
    if (threshold > degree) continue;
    const left = gone >= degree ? choose(number - degree, gone - degree) : 0n;
    const holds = rare(choose(number, 2) * left, choose(number, gone), SECRECY);
    if (holds && loses(degree - threshold + 1, LOSS)) return { degree, threshold };
  }
  return { degree: number - 1, threshold: Math.floor(number / 2) + 1 };
}

/** In how many ways, of so many drawn without replacement, at least so many are marked. */
function tail(number, marked, drawn, least) {
  let ways = 0n;
  for (let i = least; i <= Math.min(marked, drawn); i++) {
    ways += choose(marked, i) * choose(number - marked, drawn - i);
  }
  return ways;
}

function choose(n, k) {
  let ways = k > n ? 0n : 1n;
  for (let i = 1; ways && i <= Math.min(k, n - k); i++)
    ways = (ways * BigInt(n - i + 1)) / BigInt(i);
  return ways;
}

/** How many of so many clients must be in a total. */
export function least(minCohort, number) {
  const mostMissing = number > COMPLETE ? Math.floor(SHARE * number) : number;
  return Math.max(minCohort || Math.max(3, Math.floor((number + 1) / 2)), number - mostMissing);
}
