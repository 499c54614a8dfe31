/** Light or dark: as the system says, until somebody chooses here. */

import { byId } from "./dom.js";

const STORED = "gatecast.theme";
const system = matchMedia("(prefers-color-scheme: dark)");

/** @returns {"light"|"dark"} */
export function currentTheme() {
  const stored = localStorage.getItem(STORED);
  if (stored === "light" || stored === "dark") return stored;
  return system.matches ? "dark" : "light";
}

/**
 * Show the theme, and the switch for it.
 * @param {() => void} onChange called after the colours have changed
 */
export function startTheme(onChange) {
  const button = byId("theme");
  const apply = () => {
    const theme = currentTheme();
    document.documentElement.dataset.theme = theme;
    button.setAttribute("aria-pressed", String(theme === "dark"));
    onChange();
  };
  button.addEventListener("click", () => {
    localStorage.setItem(STORED, currentTheme() === "dark" ? "light" : "dark");
    apply();
  });
  system.addEventListener("change", apply);
  apply();
}

/**
 * Return a colour of the style sheet.
 * @param {string} name
 */
export function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
