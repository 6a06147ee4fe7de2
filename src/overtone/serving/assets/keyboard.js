/** Keys that work wherever the focus is, except where it takes keys itself. */

const FIELDS = 'input:not([type="radio"], [type="checkbox"], [type="range"], [type="file"]), select, textarea, dialog *';
const TAKE_SPACE = 'button, a, summary, select, input:not([type="range"], :checked)';
const TAKE_ARROWS = "input, select";

/** @param {(key: string) => (() => void) | undefined} action what a key (lower case) does now */
export function listenForKeys(action) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.(FIELDS)) return;
    if (event.key === " " && event.target.closest?.(TAKE_SPACE)) return;
    if (event.key.startsWith("Arrow") && event.target.closest?.(TAKE_ARROWS)) return;
    const found = action(event.key.toLowerCase());
    if (!found) return;
    event.preventDefault();
    found();
  });
}
