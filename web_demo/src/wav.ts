/** Writes samples as a WAV file of 32-bit floats: exactly what the page heard. */
export function wavFile(channels: Float32Array[], sampleRate: number): Blob {
  const count = channels.length;
  const frames = channels[0]?.length ?? 0;
  const bytes = frames * count * 4;
  const header = new DataView(new ArrayBuffer(58));
  const text = (at: number, letters: string) =>
    [...letters].forEach((c, i) => header.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF");
  header.setUint32(4, 50 + bytes, true);
  text(8, "WAVEfmt ");
  header.setUint32(16, 18, true);
  header.setUint16(20, 3, true); // IEEE float
  header.setUint16(22, count, true);
  header.setUint32(24, sampleRate, true);
  header.setUint32(28, sampleRate * count * 4, true);
  header.setUint16(32, count * 4, true);
  header.setUint16(34, 32, true);
  text(38, "fact");
  header.setUint32(42, 4, true);
  header.setUint32(46, frames, true);
  text(50, "data");
  header.setUint32(54, bytes, true);
  if (count === 1) return new Blob([header, channels[0] as Float32Array<ArrayBuffer>], { type: "audio/wav" });
  const interleaved = new Float32Array(frames * count);
  channels.forEach((channel, c) => channel.forEach((x, i) => (interleaved[i * count + c] = x)));
  return new Blob([header, interleaved], { type: "audio/wav" });
}
