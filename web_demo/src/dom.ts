/** Elements of the page, and text put into them. */

export function element<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`The page has no element #${id}.`);
  return found as T;
}

/** Makes an element with attributes and children. Text is text, never markup. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, string> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Shows a sentence above everything until it is closed or replaced. Errors interrupt a screen reader, others wait. */
export function notify(message: string, kind: "error" | "plain" = "error"): void {
  const close = make("button", { type: "button" }, "Close");
  const role = kind === "error" ? "alert" : "status";
  const notice = make("div", { class: `notice ${kind}`, role }, make("p", {}, message), close);
  close.addEventListener("click", () => notice.remove());
  element("notices").replaceChildren(notice);
}

export function clearNotices(): void {
  element("notices").replaceChildren();
}

/** Says something to screen readers alone. */
export function say(text: string): void {
  element("spoken").textContent = text;
}
