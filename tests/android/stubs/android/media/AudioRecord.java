package android.media;

public class AudioRecord {
    public static final int STATE_INITIALIZED = 1;
    public static final int RECORDSTATE_RECORDING = 3;
    public static final int READ_BLOCKING = 0;
    public AudioRecord(int audioSource, int sampleRateInHz, int channelConfig, int audioFormat, int bufferSizeInBytes)
            throws IllegalArgumentException {}
    public static int getMinBufferSize(int sampleRateInHz, int channelConfig, int audioFormat) { throw new Error(); }
    public int getState() { throw new Error(); }
    public int getRecordingState() { throw new Error(); }
    public int getSampleRate() { throw new Error(); }
    public void startRecording() throws IllegalStateException {}
    public int read(float[] audioData, int offsetInFloats, int sizeInFloats, int readMode) { throw new Error(); }
    public void stop() throws IllegalStateException {}
    public void release() {}
}
