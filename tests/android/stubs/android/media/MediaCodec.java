package android.media;

public final class MediaCodec {
    public static final int BUFFER_FLAG_END_OF_STREAM = 4;
    public static final class BufferInfo {
        public int offset;
        public int size;
        public long presentationTimeUs;
        public int flags;
    }
    public static MediaCodec createDecoderByType(String type) throws java.io.IOException { throw new Error(); }
    public void configure(MediaFormat format, android.view.Surface surface, MediaCrypto crypto, int flags) {}
    public void start() {}
    public int dequeueInputBuffer(long timeoutUs) { throw new Error(); }
    public java.nio.ByteBuffer getInputBuffer(int index) { throw new Error(); }
    public void queueInputBuffer(int index, int offset, int size, long presentationTimeUs, int flags) {}
    public int dequeueOutputBuffer(BufferInfo info, long timeoutUs) { throw new Error(); }
    public java.nio.ByteBuffer getOutputBuffer(int index) { throw new Error(); }
    public MediaFormat getOutputFormat(int index) { throw new Error(); }
    public void releaseOutputBuffer(int index, boolean render) {}
    public void release() {}
}
