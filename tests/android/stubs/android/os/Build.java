package android.os;

public class Build {
    public static final String MANUFACTURER = text();
    public static final String MODEL = text();
    public static final String HARDWARE = text();
    public static final String SOC_MANUFACTURER = text();
    public static final String SOC_MODEL = text();
    public static class VERSION {
        public static final String RELEASE = text();
        public static final int SDK_INT = text().length();
    }
    public static class VERSION_CODES { public static final int S = 31; }
    private static String text() { throw new Error(); }
}
