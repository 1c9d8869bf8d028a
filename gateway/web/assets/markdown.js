// A small, safe subset of Markdown, built as DOM nodes: what is not understood stays the text that it is.

import { el } from "./dom.js";

const INLINE = /(`[^`\n]+`)|(\*\*[^*\n]+\*\*)|(\*[^*\s][^*\n]*\*)|(\[[^\]\n]+\]\(https?:\/\/[^\s)]+\))|(https?:\/\/[^\s<>"')\]]+)/g;
const FENCE = /^\s*```/;
const HEADING = /^(#{1,4})\s+(.*)$/;
const BULLET = /^\s*[-*•]\s+(.*)$/;
const NUMBER = /^\s*\d+[.)]\s+(.*)$/;
const QUOTE = /^>\s?(.*)$/;

/** The text as a list of block elements. */
export function render(text) {
  const lines = text.split("\n");
  const blocks = [];
  let index = 0;
  while (index < lines.length) {
    const [block, next] = block_at(lines, index);
    if (block) blocks.push(block);
    index = next;
  }
  return blocks;
}

function block_at(lines, index) {
  const line = lines[index];
  if (line.trim() === "") return [null, index + 1];
  if (FENCE.test(line)) return fence(lines, index);
  const heading = HEADING.exec(line);
  if (heading) return [el(`h${heading[1].length + 2}`, {}, ...inline(heading[2])), index + 1];
  if (BULLET.test(line)) return list(lines, index, "ul", BULLET);
  if (NUMBER.test(line)) return list(lines, index, "ol", NUMBER);
  if (QUOTE.test(line)) return quote(lines, index);
  return paragraph(lines, index);
}

function fence(lines, index) {
  let end = index + 1;
  while (end < lines.length && !FENCE.test(lines[end])) end += 1;
  const code = el("code", { text: lines.slice(index + 1, end).join("\n") });
  return [el("pre", { tabindex: "0" }, code), end + 1];
}

function list(lines, index, tag, pattern) {
  const items = [];
  let match;
  while (index < lines.length && (match = pattern.exec(lines[index]))) {
    items.push(el("li", {}, ...inline(match[1])));
    index += 1;
  }
  return [el(tag, {}, ...items), index];
}

function quote(lines, index) {
  const inner = [];
  let match;
  while (index < lines.length && (match = QUOTE.exec(lines[index]))) {
    inner.push(match[1]);
    index += 1;
  }
  return [el("blockquote", {}, ...inline(inner.join("\n"))), index];
}

function paragraph(lines, index) {
  const inner = [];
  const other = (line) => [FENCE, HEADING, BULLET, NUMBER, QUOTE].some((pattern) => pattern.test(line));
  do {
    inner.push(lines[index]);
    index += 1;
  } while (index < lines.length && lines[index].trim() !== "" && !other(lines[index]));
  return [el("p", {}, ...inline(inner.join("\n"))), index];
}

function inline(text) {
  const nodes = [];
  let from = 0;
  for (const match of text.matchAll(INLINE)) {
    if (match.index > from) nodes.push(text.slice(from, match.index));
    nodes.push(span(match));
    from = match.index + match[0].length;
  }
  if (from < text.length) nodes.push(text.slice(from));
  return nodes;
}

function span([whole, code, strong, emphasis, named]) {
  if (code) return el("code", { text: code.slice(1, -1) });
  if (strong) return el("strong", { text: strong.slice(2, -2) });
  if (emphasis) return el("em", { text: emphasis.slice(1, -1) });
  if (named) {
    const middle = named.lastIndexOf("](");
    return link(named.slice(middle + 2, -1), named.slice(1, middle));
  }
  const address = whole.replace(/[.,;:!?]+$/, "");
  return link(address, address, whole.slice(address.length));
}

function link(address, text, rest = "") {
  const anchor = el("a", { href: address, text, target: "_blank", rel: "noopener noreferrer nofollow" });
  return rest ? el("span", {}, anchor, rest) : anchor;
}
