/** Numbers as people read them. */

const compact = new Intl.NumberFormat("en", { maximumSignificantDigits: 5 });
const counts = new Intl.NumberFormat("en");

/** @param {number|null|undefined} value */
export function formatNumber(value) {
  return value === null || value === undefined || Number.isNaN(value) ? "–" : compact.format(value);
}

/** @param {number} value */
export function formatCount(value) {
  return counts.format(value);
}

/**
 * @param {number} count
 * @param {string} one
 * @param {string} [many]
 */
export function plural(count, one, many = `${one}s`) {
  return `${formatCount(count)} ${count === 1 ? one : many}`;
}

/** @param {number} share */
export function formatShare(share) {
  return Number.isNaN(share) ? "–" : `${Math.round(share * 100)} %`;
}

/** @param {number} seconds */
export function formatDuration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  return seconds < 1 ? `${formatNumber(Number((seconds * 1000).toPrecision(3)))} ms` : `${formatNumber(seconds)} s`;
}

const FREQUENCIES = { s: "second", min: "minute", h: "hour", D: "day", B: "business day", W: "week", M: "month", Q: "quarter", Y: "year" };

/**
 * Say a frequency in words: `M` is monthly data, one value a month.
 * @param {string|null} freq
 */
export function frequencyInWords(freq) {
  if (!freq) return "plain steps";
  const [, count, unit] = /^(\d*)(.+)$/.exec(freq) ?? ["", "", freq];
  const name = FREQUENCIES[/** @type {keyof typeof FREQUENCIES} */ (unit)] ?? unit;
  return count ? `every ${count} ${name}s` : `every ${name}`;
}
