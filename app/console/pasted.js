/** Pasted text: a row of numbers becomes a file of one column; anything else is a file already. */

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const COMMA_NUMBER = /^[+-]?\d+,\d+$/;
const MISSING = /^(na|nan|n\/a|null|none|-|\?)$/i;

/**
 * @param {string} text
 * @returns {string} a CSV file
 */
export function toCsv(text) {
  const words = text.trim().split(/[\s;]+/);
  if (words.length > 1 && words.every((word) => COMMA_NUMBER.test(word) || MISSING.test(word))) {
    return oneColumn(words.map((word) => word.replace(",", ".")));
  }
  const isOneRow = !text.trim().includes("\n");
  const isOneColumn = !/[,;\t]/.test(text);
  const values = text.trim().split(/[\s,;]+/).filter(Boolean);
  const isPlain = values.every((value) => NUMBER.test(value) || MISSING.test(value));
  return isPlain && (isOneRow || isOneColumn) ? oneColumn(values) : text;
}

/** @param {string[]} values */
function oneColumn(values) {
  return `value\n${values.map((value) => (MISSING.test(value) ? "NaN" : value)).join("\n")}\n`;
}
