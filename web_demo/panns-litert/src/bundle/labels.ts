import { PannsLitertError, shown } from "../errors.js";

// Control characters, surrogates, separators of lines and paragraphs, characters that change the order in which a page
// shows the text around them, and U+FEFF, which is invisible.
const REFUSED = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/u;

/**
 * Reads class names, one a line. Lines end with LF or CR LF.
 *
 * @param where name of the file in messages
 * @throws PannsLitertError ("bundle") the file is not UTF-8; or a name is empty, there twice, or holds a control
 *     character, a surrogate or a character that changes the direction of text
 */
export function classNames(bytes: Uint8Array, where: string): string[] {
  const refuse = (why: string): never => {
    throw new PannsLitertError("bundle", `${where}${why}; expected different names, one a line`);
  };
  let text = "";
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    refuse(": not UTF-8");
  }
  const names = text.replaceAll("\r\n", "\n").replace(/\n$/, "").split("\n");
  const seen = new Map<string, number>();
  names.forEach((name, i) => {
    const line = `, line ${i + 1}: `;
    const bad = REFUSED.exec(name)?.[0];
    if (name.trim() === "") refuse(`${line}an empty name`);
    if (bad !== undefined) {
      const code = bad.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0");
      refuse(`${line}${shown(name)} holds the character U+${code}`);
    }
    if (seen.has(name)) refuse(`${line}${shown(name)} is on line ${seen.get(name)}, too`);
    seen.set(name, i + 1);
  });
  return names;
}
