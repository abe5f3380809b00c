package android.media;

public final class MediaExtractor {
    public void setDataSource(android.content.Context context, android.net.Uri uri, java.util.Map<String, String> headers)
            throws java.io.IOException {}
    public int getTrackCount() { throw new Error(); }
    public MediaFormat getTrackFormat(int index) { throw new Error(); }
    public void selectTrack(int index) {}
    public int readSampleData(java.nio.ByteBuffer byteBuf, int offset) { throw new Error(); }
    public long getSampleTime() { throw new Error(); }
    public boolean advance() { throw new Error(); }
    public void release() {}
}
