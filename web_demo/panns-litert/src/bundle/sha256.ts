import { PannsLitertError } from "../errors.js";

/**
 * SHA-256, hexadecimal.
 *
 * @throws PannsLitertError ("bundle") the browser has none, because the page's address is not secure
 */
export async function sha256(data: Uint8Array): Promise<string> {
  if (globalThis.crypto?.subtle === undefined) {
    throw new PannsLitertError(
      "bundle",
      "no SHA-256 on a page from an insecure address; expected https, localhost or 127.0.0.1",
    );
  }
  const digest = await crypto.subtle.digest("SHA-256", data as Uint8Array<ArrayBuffer>);
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
