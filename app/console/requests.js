/** From a series of a file to a forecast request, and that request as a command to copy. */

/**
 * @typedef {{item_id: string|null, start: string|null, timestamps: string[]|null,
 *   target: (number|null)[], num_gaps: number, num_missing: number,
 *   past_covariates: Record<string, (number|null)[]>, future_covariates: Record<string, (number|null)[]>,
 *   static_covariates: Record<string, number|null>}} Series
 * @typedef {{model_name: string, model_version: number, is_ready: boolean, reason: string,
 *   freq: string|null, season: number|null, horizon: number|null, context_length: number|null,
 *   quantile_levels: number[], past_covariates: string[], future_covariates: string[],
 *   static_covariates: string[]}} Model
 * @typedef {{model: Model, horizon: number, interval: number, freq: string|null}} Choice
 */

/**
 * Whether time stamps can go with the series: a model of another frequency would refuse them.
 * @param {Choice} choice
 */
export function usesStamps(choice) {
  return Boolean(choice.freq) && (!choice.model.freq || choice.model.freq === choice.freq);
}

/**
 * All columns that a model needs beside the target.
 * @param {Model|undefined} model
 */
export function covariateNames(model) {
  return model ? [...model.past_covariates, ...model.future_covariates, ...model.static_covariates] : [];
}

/**
 * The levels of a fan: the interval, half of the values within it, and the median.
 * @param {number} interval such as 0.8
 * @returns {number[]}
 */
export function levelsOf(interval) {
  const low = Number(((1 - interval) / 2).toFixed(4));
  const levels = new Set([low, 0.25, 0.5, 0.75, Number((1 - low).toFixed(4))]);
  return [...levels].filter((level) => level >= low && level <= 1 - low + 1e-9).sort((a, b) => a - b);
}

/**
 * Build the request for some series, each cut to what the model reads.
 * @param {Series[]} series
 * @param {Choice} choice
 */
export function buildRequest(series, choice) {
  const stamped = usesStamps(choice);
  return {
    series: series.map((one) => toItem(one, choice, stamped)),
    ...(stamped && !choice.model.freq ? { freq: choice.freq } : {}),
    horizon: choice.horizon,
    quantile_levels: levelsOf(choice.interval),
  };
}

/**
 * @param {Series} series
 * @param {Choice} choice
 * @param {boolean} stamped
 */
function toItem(series, choice, stamped) {
  const first = Math.max(0, series.target.length - (choice.model.context_length ?? Infinity));
  return {
    ...(series.item_id === null ? {} : { item_id: series.item_id }),
    ...(stamped && series.timestamps ? { start: series.timestamps[first] } : {}),
    target: series.target.slice(first),
    ...covariatesOf(series, choice, first),
  };
}

/**
 * The covariates that the model takes, cut like the target; a backtest cuts its target before.
 * @param {Series} series
 * @param {Choice} choice
 * @param {number} first
 */
function covariatesOf({ target, past_covariates, future_covariates, static_covariates }, { model, horizon }, first) {
  const cut = (/** @type {Record<string, (number|null)[]>} */ values, /** @type {string[]} */ names, /** @type {number} */ end) =>
    Object.fromEntries(names.filter((name) => name in values).map((name) => [name, values[name].slice(first, end)]));
  return {
    ...(model.past_covariates.length ? { past_covariates: cut(past_covariates, model.past_covariates, target.length) } : {}),
    ...(model.future_covariates.length ? { future_covariates: cut(future_covariates, model.future_covariates, target.length + horizon) } : {}),
    ...(model.static_covariates.length ? { static_covariates } : {}),
  };
}

/**
 * @param {string} url
 * @param {object} request
 * @param {boolean} needsKey
 */
export function asCurl(url, request, needsKey) {
  const key = needsKey ? ` \\\n  -H "Authorization: Bearer $GATECAST_KEY"` : "";
  const body = JSON.stringify(request).replaceAll("'", "'\\''");
  return `curl -s '${url}'${key} \\\n  -H 'Content-Type: application/json' \\\n  -d '${body}'\n`;
}

/**
 * @param {string} url
 * @param {object} request
 * @param {boolean} needsKey
 */
export function asPython(url, request, needsKey) {
  const body = JSON.stringify(JSON.stringify(request));
  const key = needsKey ? `, "Authorization": f"Bearer {os.environ['GATECAST_KEY']}"` : "";
  return `import json
${needsKey ? "import os\n" : ""}from urllib.request import Request, urlopen

request = json.loads(${body})
answer = urlopen(Request(
    ${JSON.stringify(url)},
    json.dumps(request).encode(),
    {"Content-Type": "application/json"${key}},
))
print(json.dumps(json.load(answer)["forecasts"], indent=2))
`;
}
