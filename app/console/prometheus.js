/** The text of `/metrics`, and rates between two readings of it. */

/** @typedef {{name: string, labels: Record<string, string>, value: number}} Sample */

const LINE = /^([a-z_:]+)(?:\{(.*)\})? (\S+)$/i;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/**
 * @param {string} text
 * @returns {Sample[]}
 */
export function parseMetrics(text) {
  const samples = [];
  for (const line of text.split("\n")) {
    const match = line.startsWith("gatecast_") ? LINE.exec(line) : null;
    if (!match) continue;
    const labels = Object.fromEntries([...(match[2] ?? "").matchAll(LABEL)].map((m) => [m[1], m[2]]));
    samples.push({ name: match[1], labels, value: Number(match[3]) });
  }
  return samples;
}

/**
 * Sum what a metric says about requests to models, or about models themselves.
 * @param {Sample[]} samples
 * @param {string} name
 */
function total(samples, name) {
  return samples
    .filter((sample) => sample.name === name && sample.labels.model_name)
    .reduce((sum, sample) => sum + sample.value, 0);
}

/**
 * @typedef {{requestsPerSecond: number, latency: number, batchRows: number, waiting: number}} Live
 * @param {Sample[]} before
 * @param {Sample[]} after
 * @param {number} seconds between them
 * @returns {Live}
 */
export function liveBetween(before, after, seconds) {
  const grown = (/** @type {string} */ name) => Math.max(0, total(after, name) - total(before, name));
  return {
    requestsPerSecond: grown("gatecast_requests_total") / seconds,
    latency: grown("gatecast_request_duration_seconds_sum") / grown("gatecast_request_duration_seconds_count"),
    batchRows: grown("gatecast_batch_rows_sum") / grown("gatecast_batch_rows_count"),
    waiting: total(after, "gatecast_queue_requests"),
  };
}
