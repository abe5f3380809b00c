/** Plays the recording that is on the page. */

export class Player {
  private readonly audio = new Audio();
  private url = "";
  private fallback: (() => Promise<Blob>) | null = null;

  /**
   * @param moved called while the position moves, with the position in seconds
   * @param changed called when playing begins or ends
   */
  constructor(
    private readonly moved: (seconds: number) => void,
    private readonly changed: (playing: boolean) => void,
  ) {
    const follow = () => {
      this.moved(this.audio.currentTime);
      if (!this.audio.paused) requestAnimationFrame(follow);
    };
    this.audio.addEventListener("play", () => {
      this.changed(true);
      requestAnimationFrame(follow);
    });
    for (const over of ["pause", "ended"]) this.audio.addEventListener(over, () => this.changed(false));
    this.audio.addEventListener("seeked", () => this.moved(this.audio.currentTime));
    this.audio.addEventListener("error", () => void this.replace());
  }

  get playing(): boolean {
    return !this.audio.paused;
  }

  get seconds(): number {
    return this.audio.currentTime;
  }

  /**
   * Takes another recording.
   *
   * @param fallback makes a file that every browser plays; called if this browser does not play `file`
   */
  open(file: Blob, fallback: () => Promise<Blob>): void {
    this.close();
    this.fallback = fallback;
    this.load(file);
  }

  close(): void {
    this.audio.pause();
    this.fallback = null;
    this.audio.removeAttribute("src");
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = "";
  }

  async toggle(): Promise<void> {
    if (this.playing) this.audio.pause();
    else await this.play();
  }

  async play(from?: number): Promise<void> {
    if (from !== undefined) this.seek(from);
    await this.audio.play().catch(() => {}); // an error event follows where it matters
  }

  seek(seconds: number): void {
    this.audio.currentTime = Math.max(0, seconds);
    this.moved(this.audio.currentTime);
  }

  private load(file: Blob): void {
    this.url = URL.createObjectURL(file);
    this.audio.src = this.url;
  }

  private async replace(): Promise<void> {
    const { fallback } = this;
    if (!fallback) return;
    this.fallback = null;
    const file = await fallback();
    if (this.url) URL.revokeObjectURL(this.url);
    this.load(file);
  }
}
