package android.media;

public final class MediaFormat {
    public static final String KEY_MIME = "mime";
    public static final String KEY_SAMPLE_RATE = "sample-rate";
    public static final String KEY_CHANNEL_COUNT = "channel-count";
    public static final String KEY_PCM_ENCODING = "pcm-encoding";
    public boolean containsKey(String name) { throw new Error(); }
    public int getInteger(String name) { throw new Error(); }
    public String getString(String name) { throw new Error(); }
}
