/** The two things that every panel does with the document. */

/** The element with this id. */
export const $ = (id) => document.getElementById(id);

/** A new element with properties and children. */
export function made(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}
