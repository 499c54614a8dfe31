/** Pasted text: numbers become a file of one column; anything else is a file already. */

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const COMMA_NUMBER = /^[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?$/;
const GROUPED_NUMBER = /^[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?$/;
const SMALL_NUMBER = /^[+-]?\d{1,3}(\.\d+)?$/;
const MISSING = /^(na|nan|n\/a|null|none|-|\?)$/i;
/** What stands between thousands and is never between numbers. */
const GROUP_MARK = /(?<=\d)[\u00a0\u202f'’](?=\d{3}(?!\d))/g;
const DATE = /^"?\d{4}-\d\d(-\d\d)?([T ][\d:.]+)?/;

/**
 * @param {string} text
 * @returns {{content: string, name: string}} a CSV file, and how the text was read
 */
export function toCsv(text) {
  const written = singleSpaced(text.replaceAll("\u2212", "-").replace(GROUP_MARK, "").replace(/^[\s,;]+|[\s,;]+$/g, ""));
  const words = wordsOf(written, /[;\t\n]/);
  if (areGrouped(words)) return { content: oneColumn(words.map((word) => word.replaceAll(",", ""))), name: "pasted text with commas between thousands" };
  if (haveDecimalCommas(words)) return { content: oneColumn(words.map((word) => word.replaceAll(".", "").replace(",", "."))), name: "pasted text with decimal commas" };
  const isOneRow = !written.includes("\n");
  const isOneColumn = !/[,;\t]/.test(written);
  const values = wordsOf(written, isOneRow ? /[,;\t]/ : /\n/);
  const isPlain = values.every((value) => NUMBER.test(value) || MISSING.test(value));
  return { content: isPlain && (isOneRow || isOneColumn) ? oneColumn(values) : withHeader(text), name: "pasted text" };
}

/**
 * @param {string} text
 * @returns {string} without the empty lines, where each second one is empty
 */
function singleSpaced(text) {
  const lines = text.split("\n");
  return lines.every((line, index) => Boolean(line.trim()) === (index % 2 === 0)) ? lines.filter((line) => line.trim()).join("\n") : text;
}

/**
 * The words of a text; where nothing stands between two separators, a value is missing.
 * @param {string} text
 * @param {RegExp} separator
 */
function wordsOf(text, separator) {
  return text.split(separator).flatMap((cell) => cell.trim().split(/\s+/)).map((word) => word || "NaN");
}

/**
 * Whether commas stand between thousands, as in 1,234.5 or in 950 1,020; 1,234 alone does not tell.
 * @param {string[]} words
 */
function areGrouped(words) {
  const grouped = words.filter((word) => GROUPED_NUMBER.test(word));
  const others = words.filter((word) => !GROUPED_NUMBER.test(word) && !MISSING.test(word));
  if (!grouped.length || !others.every((word) => SMALL_NUMBER.test(word))) return false;
  return grouped.some((word) => word.includes(".")) || (others.length > 0 && grouped.every((word) => word.split(",").length === 2));
}

/** @param {string[]} words */
function haveDecimalCommas(words) {
  return words.length > 1 && words.some((word) => word.includes(",")) && words.every((word) => COMMA_NUMBER.test(word) || MISSING.test(word));
}

/**
 * Number the columns of a table that has a date where its header should be: the service would read it as names.
 * @param {string} text
 */
function withHeader(text) {
  const [first] = text.trim().split("\n", 1);
  const separator = ["\t", ";", "|", ","].find((mark) => first.includes(mark));
  const cells = separator ? first.split(separator) : [];
  return cells.some((cell) => DATE.test(cell.trim())) ? `${cells.map((_, index) => `column ${index + 1}`).join(separator)}\n${text.trim()}\n` : text;
}

/** @param {string[]} values */
function oneColumn(values) {
  return `value\n${values.map((value) => (MISSING.test(value) ? "NaN" : value)).join("\n")}\n`;
}
