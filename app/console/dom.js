/** Small helpers to read and build the page. */

/**
 * Return the element with this id.
 * @param {string} id
 * @returns {any}
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element #${id}`);
  return found;
}

/**
 * Make an element; text children are text, never markup.
 * @param {string} tag
 * @param {Record<string, any>} attributes
 * @param {...(Node|string|number)} children
 * @returns {any}
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return element;
}

/**
 * Put options into a select, keeping its value where that is still there.
 * @param {HTMLSelectElement} select
 * @param {{value: string, label: string}[]} options
 * @param {string} [value]
 */
export function fillSelect(select, options, value = select.value) {
  select.replaceChildren(...options.map((o) => make("option", { value: o.value }, o.label)));
  if (options.some((option) => option.value === value)) select.value = value;
}

/**
 * Call a function once things have been quiet for a while.
 * @param {() => void} callback
 * @param {number} delayMs
 */
export function debounce(callback, delayMs) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = window.setTimeout(callback, delayMs);
  };
}
