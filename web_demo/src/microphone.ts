/** The microphone, as blocks of mono samples. */

import worklet from "./capture.worklet.js?url";

export interface Microphone {
  sampleRate: number;
  /** Ends the recording; resolves when the last block has been handed over. */
  stop(): Promise<void>;
}

/**
 * Opens the microphone, as raw as the browser gives it: without echo cancellation, noise suppression and gain control,
 * which change what the model hears.
 *
 * @param block called with each block of samples
 * @param ended called if the microphone goes away by itself
 * @throws Error with a message for the person, if there is none or it may not be used
 */
export async function openMicrophone(block: (samples: Float32Array) => void, ended: () => void): Promise<Microphone> {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Error(
      "This page has no access to a microphone: browsers give it only to pages on https:// and on this computer. " +
        "Open the page from there, or choose a recording.",
    );
  }
  const raw = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  let media: MediaStream;
  try {
    media = await navigator.mediaDevices.getUserMedia({ audio: raw });
  } catch (error) {
    throw new Error(whyNot(error), { cause: error });
  }
  const context = new AudioContext();
  try {
    await context.audioWorklet.addModule(worklet);
    await context.resume();
  } catch (error) {
    media.getTracks().forEach((track) => track.stop());
    void context.close();
    throw new Error(`The browser cannot process the microphone's sound (${error}). Choose a recording instead.`);
  }
  const source = context.createMediaStreamSource(media);
  const capture = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
  let last = () => {};
  capture.port.onmessage = (event: MessageEvent<Float32Array | null>) => {
    if (event.data === null) last();
    else if (event.data.length > 0) block(event.data);
  };
  media.getAudioTracks()[0].addEventListener("ended", ended);
  source.connect(capture);
  return {
    sampleRate: context.sampleRate,
    async stop() {
      await new Promise<void>((resolve) => {
        last = resolve;
        capture.port.postMessage("stop");
        setTimeout(resolve, 1000); // a context that the system suspended does not answer
      });
      media.getTracks().forEach((track) => track.stop());
      await context.close();
    },
  };
}

function whyNot(error: unknown): string {
  switch (error instanceof DOMException ? error.name : "") {
    case "NotAllowedError":
    case "SecurityError":
      return "The microphone was not allowed. Allow it in the browser's settings for this page, then try again.";
    case "NotFoundError":
      return "No microphone was found. Connect one and try again, or choose a recording.";
    case "NotReadableError":
      return "The microphone does not answer; another program may be using it. Close that program and try again.";
    default:
      return `The microphone could not be opened (${error}). Choose a recording instead.`;
  }
}
