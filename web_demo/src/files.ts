/** What a person dropped or chose: a recording, or the files of a bundle. */

export type Dropped = { bundle: File[] } | { recording: File; others: number };

/** Longest recording that the page takes, seconds: decoded, an hour of stereo is more than a gigabyte. */
export const MOST_SECONDS = 3600;

/** Largest file, whatever it says of its length. */
const MOST_BYTES = 2e9;

/**
 * Tells a bundle from a recording.
 *
 * @throws Error with a message for the person, if it is neither
 */
export function sorted(files: File[]): Dropped {
  if (files.some((file) => file.name === "manifest.json" || file.name.endsWith(".tflite"))) return { bundle: files };
  if (files.length === 0) throw new Error("Nothing was dropped that can be read. Expected a recording or a bundle.");
  return { recording: files[0], others: files.length - 1 };
}

/** Returns the files of a drop, also those of a folder. It must be called before the event is over. */
export function droppedFiles(data: DataTransfer): Promise<File[]> {
  const entries = [...data.items].map((item) => item.webkitGetAsEntry?.()).filter((entry) => entry != null);
  if (entries.length === 0) return Promise.resolve([...data.files]);
  return Promise.all(entries.map(filesOf)).then((found) => found.flat());
}

async function filesOf(entry: FileSystemEntry): Promise<File[]> {
  if (entry.isFile) {
    return [await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject))];
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const found: File[] = [];
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return found;
    for (const inner of some) if (inner.isFile) found.push(...(await filesOf(inner)));
  }
}

/**
 * Refuses a file that cannot be a recording, or is too long to be decoded whole.
 *
 * @throws Error with a message for the person
 */
export async function requireUsable(file: File): Promise<void> {
  if (file.size === 0) throw new Error(`${file.name} is empty: 0 bytes. Expected a recording, such as WAV.`);
  const seconds = await playableSeconds(file);
  if (seconds > MOST_SECONDS) throw tooLong(file.name, `${Math.round(seconds / 60)} minutes long`);
  if (file.size > MOST_BYTES) throw tooLong(file.name, `${(file.size / 1e9).toFixed(1)} GB`);
}

/** The error for a recording that is too long to be decoded whole. */
export function tooLong(name: string, length: string): Error {
  return new Error(
    `${name} is ${length}. Expected at most ${MOST_SECONDS / 60} minutes, because the page decodes a recording ` +
      "whole. Cut it, or use the command panns-litert events, which takes any length.",
  );
}

/** Returns the length that the browser's player reads from the file; 0 if it does not know. */
function playableSeconds(file: File): Promise<number> {
  const player = document.createElement("audio");
  const url = URL.createObjectURL(file);
  return new Promise<number>((resolve) => {
    player.onloadedmetadata = () => resolve(Number.isFinite(player.duration) ? player.duration : 0);
    player.onerror = () => resolve(0);
    setTimeout(() => resolve(0), 3000);
    player.preload = "metadata";
    player.src = url;
  }).finally(() => {
    player.removeAttribute("src");
    URL.revokeObjectURL(url);
  });
}

/** Offers text or a file for download. */
export function download(content: Blob | string, name: string, type = "text/plain"): void {
  const blob = typeof content === "string" ? new Blob([content], { type: `${type};charset=utf-8` }) : content;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
