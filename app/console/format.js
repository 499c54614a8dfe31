/** Numbers as people read them. */

// Five digits, or all whole ones.
const full = new Intl.NumberFormat("en", { maximumSignificantDigits: 5, maximumFractionDigits: 0, roundingPriority: "morePrecision" });
const scientific = new Intl.NumberFormat("en", { notation: "scientific", maximumSignificantDigits: 5 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 5 });
const counts = new Intl.NumberFormat("en");

/** @param {number|null|undefined} value */
export function formatNumber(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  return (isReadable(value) ? full : scientific).format(value);
}

/**
 * A number for an axis, where there is little room.
 * @param {number} value
 */
export function formatTick(value) {
  return isReadable(value) && Math.abs(value) >= 1e6 ? short.format(value) : formatNumber(value);
}

/** @param {number} value whether it can be read without counting zeros */
function isReadable(value) {
  const size = Math.abs(value);
  return size === 0 || (size >= 1e-4 && size < 1e15);
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
