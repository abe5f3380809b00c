/** What could not be used. */
export type ErrorKind = "audio" | "bundle" | "engine" | "events" | "spec";

/** The one error of this package. Its message says what was wrong, what was expected and, if it helps, what to do. */
export class PannsLitertError extends Error {
  override readonly name = "PannsLitertError";

  constructor(
    readonly kind: ErrorKind,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}

/** The message of anything that was thrown. */
export function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

const SHOWN = 100; // characters of a value in a message

/** A value from elsewhere for a message: on one line, without the middle of a long one. */
export function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length <= SHOWN ? text : `${text.slice(0, SHOWN / 2)}…${text.slice(-SHOWN / 2)}`;
}
