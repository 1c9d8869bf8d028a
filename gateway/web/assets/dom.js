// Small helpers to build the page: every text goes in as text, never as markup.

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

/** Builds an element: properties (class, text, attributes, on… handlers), then children. */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") element.className = value;
    else if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Shows a text in an element, or hides the element where there is none. */
export function show(element, text) {
  element.textContent = text ?? "";
  element.hidden = !text;
}

/** `14:05` today, else `3 May, 14:05`. */
export function moment(timestamp) {
  const date = new Date(timestamp);
  const time = { hour: "2-digit", minute: "2-digit" };
  const today = date.toDateString() === new Date().toDateString();
  return date.toLocaleString(undefined, today ? time : { day: "numeric", month: "short", ...time });
}
