import { PannsLitertError, reason, shown } from "./errors.js";

const MOST_DEPTH = 32; // of nested lists and objects; no format of this project has more than eight
const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\]:,]|[^\s{}[\]:,"]+/gs;
const UNPAIRED = /[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/;

/**
 * Strict reader of one JSON object: a field that is read must exist and have the requested type, and `requireNoOther`
 * refuses fields that were not read. Every function throws PannsLitertError ("bundle").
 */
export class StrictJson {
  private readonly asked = new Set<string>();

  private constructor(
    private readonly data: Record<string, unknown>,
    private readonly path: string,
  ) {}

  /**
   * Parses UTF-8 text of one JSON object. Refused are a name twice in one object, NUL and unpaired surrogates in texts,
   * numbers that are not finite, and more than 32 levels.
   *
   * @param path name of the text in messages
   */
  static parse(bytes: Uint8Array, path: string): StrictJson {
    const refuse = (why: string): never => {
      throw new PannsLitertError("bundle", `${path}: ${why}`);
    };
    let text: string;
    try {
      text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    } catch {
      return refuse("not UTF-8; expected JSON in UTF-8");
    }
    let value: unknown;
    try {
      value = JSON.parse(text, (name, item: unknown) => {
        if (item === Infinity || item === -Infinity) refuse(`${name} is too large; expected a finite number`);
        for (const part of [name, item]) {
          if (typeof part === "string" && (part.includes("\0") || UNPAIRED.test(part))) {
            refuse("a text with NUL or an unpaired surrogate");
          }
        }
        return item;
      });
    } catch (error) {
      if (error instanceof PannsLitertError) throw error;
      refuse(`not JSON: ${reason(error)}; expected one JSON object and nothing else`);
    }
    requireStructure(text, refuse);
    return StrictJson.of(value, path);
  }

  private static of(value: unknown, path: string): StrictJson {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw new PannsLitertError("bundle", `${path} ${shown(value)}; expected an object with named fields`);
    }
    return new StrictJson(value as Record<string, unknown>, path);
  }

  string(name: string): string {
    return this.typed(name, "a text", (value) => typeof value === "string") as string;
  }

  boolean(name: string): boolean {
    return this.typed(name, "true or false", (value) => typeof value === "boolean") as boolean;
  }

  number(name: string): number {
    return this.typed(name, "a number", (value) => typeof value === "number") as number;
  }

  /** A whole number within ±2^31; with `large`, within ±2^53. */
  int(name: string, large = false): number {
    const below = large ? 2 ** 53 : 2 ** 31;
    const fits = (value: unknown) => Number.isInteger(value) && Math.abs(value as number) < below;
    return this.typed(name, "a whole number", fits) as number;
  }

  numbers(name: string): number[] {
    return this.list(name, "numbers", (item) => typeof item === "number") as number[];
  }

  ints(name: string): number[] {
    return this.list(name, "whole numbers", Number.isInteger) as number[];
  }

  strings(name: string): string[] {
    return this.list(name, "texts", (item) => typeof item === "string") as string[];
  }

  child(name: string): StrictJson {
    return StrictJson.of(this.field(name), `${this.path}.${name}`);
  }

  children(name: string): StrictJson[] {
    return this.list(name, "objects", () => true).map((item, i) => StrictJson.of(item, `${this.path}.${name}[${i}]`));
  }

  /** All fields of the object `name`, each converted by `read`. */
  map<T>(name: string, read: (json: StrictJson, name: string) => T): Map<string, T> {
    const child = this.child(name);
    return new Map(Object.keys(child.data).map((key) => [key, read(child, key)]));
  }

  /** The result of `read`, or null if the field is null. */
  optional<T>(name: string, read: (json: StrictJson, name: string) => T): T | null {
    return this.field(name) === null ? null : read(this, name);
  }

  /** The result of `read`, or null if there is no such field. */
  given<T>(name: string, read: (json: StrictJson, name: string) => T): T | null {
    this.asked.add(name);
    return Object.hasOwn(this.data, name) ? read(this, name) : null;
  }

  /** The result of `read`, which must read every field of this object. */
  whole<T>(read: (json: StrictJson) => T): T {
    const result = read(this);
    this.requireNoOther();
    return result;
  }

  requireNoOther(): void {
    const unknown = Object.keys(this.data).filter((name) => !this.asked.has(name));
    if (unknown.length > 0) {
      this.fail(`unknown ${unknown.sort().map(short).join(", ")}; expected only ${[...this.asked].sort().join(", ")}`);
    }
  }

  fail(message: string): never {
    throw new PannsLitertError("bundle", `${this.path}: ${message}`);
  }

  private field(name: string): unknown {
    this.asked.add(name);
    if (!Object.hasOwn(this.data, name)) this.fail(`missing ${name}; expected every field of this format`);
    return this.data[name];
  }

  private typed(name: string, expected: string, fits: (value: unknown) => boolean): unknown {
    const value = this.field(name);
    return fits(value) ? value : this.fail(`${name} ${shown(value)}; expected ${expected}`);
  }

  private list(name: string, expected: string, fits: (item: unknown) => boolean): unknown[] {
    const items = this.typed(name, "a list", Array.isArray) as unknown[];
    const bad = items.find((item) => !fits(item));
    return bad === undefined ? items : this.fail(`${name} holds ${shown(bad)}; expected ${expected}`);
  }
}

/** Checks what JSON.parse lets pass in a valid text: the depth, and that no object has a name twice. */
function requireStructure(text: string, refuse: (why: string) => never): void {
  const names: (Set<string> | null)[] = []; // of each open object; null for a list
  let last = "";
  for (const [token] of text.matchAll(TOKEN)) {
    if (token === "{" || token === "[") {
      names.push(token === "{" ? new Set() : null);
      if (names.length > MOST_DEPTH) refuse(`nested more than ${MOST_DEPTH} deep; expected JSON of a few levels`);
    } else if (token === "}" || token === "]") {
      names.pop();
    } else if (token === ":") {
      const name = JSON.parse(last) as string;
      const open = names[names.length - 1];
      if (open?.has(name)) refuse(`${shown(name)} twice; expected each name once`);
      open?.add(name);
    }
    last = token;
  }
}

function short(name: string): string {
  return /^[\w.-]{1,100}$/.test(name) ? name : shown(name);
}
