/** Errors of a forecast against what came: MASE and coverage, defined as in training. */

/**
 * Mean absolute seasonal difference of a history, the denominator of MASE; steps where the history
 * has no pair of values a season apart.
 * @param {(number|null)[]} history
 * @param {number} season
 */
export function seasonalScale(history, season) {
  for (const lag of [season, 1]) {
    const differences = history
      .slice(lag)
      .map((value, index) => (value === null || history[index] === null ? null : Math.abs(value - history[index])));
    const scale = meanKnown(differences);
    if (!Number.isNaN(scale)) return scale;
  }
  return NaN;
}

/**
 * @param {(number|null)[]} actual
 * @param {number[]} forecast
 * @param {number} scale
 */
export function mase(actual, forecast, scale) {
  const errors = actual.map((value, index) => (value === null ? null : Math.abs(value - forecast[index])));
  return scale > 0 ? meanKnown(errors) / scale : NaN;
}

/**
 * Share of values within two quantiles.
 * @param {(number|null)[]} actual
 * @param {number[]} lower
 * @param {number[]} upper
 */
export function coverage(actual, lower, upper) {
  return meanKnown(
    actual.map((value, index) => (value === null ? null : Number(value >= lower[index] && value <= upper[index]))),
  );
}

/**
 * What a season ago says about the steps ahead.
 * @param {(number|null)[]} history
 * @param {number} season
 * @param {number} horizon
 * @returns {number[]}
 */
export function seasonalNaive(history, season, horizon) {
  const lastKnown = history.findLast((value) => value !== null) ?? NaN;
  return Array.from({ length: horizon }, (_, step) => {
    for (let index = history.length - season + (step % season); index >= 0; index -= season) {
      const value = history[index];
      if (value !== null && value !== undefined) return value;
    }
    return lastKnown;
  });
}

/** @param {(number|null)[]} values */
export function meanKnown(values) {
  const known = values.filter((value) => value !== null && !Number.isNaN(value));
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : NaN;
}
