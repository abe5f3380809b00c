package android.content;

public abstract class Context {
    public java.io.File getFilesDir() { throw new Error(); }
    public java.io.File getCacheDir() { throw new Error(); }
    public final <T> T getSystemService(Class<T> kind) { throw new Error(); }
    public void startActivity(Intent intent) {}
    public java.io.File getNoBackupFilesDir() { throw new Error(); }
    public android.content.res.AssetManager getAssets() { throw new Error(); }
    public android.content.pm.PackageManager getPackageManager() { throw new Error(); }
    public String getPackageName() { throw new Error(); }
    public final String getString(int id) { throw new Error(); }
    public final String getString(int id, Object... arguments) { throw new Error(); }
    public int checkSelfPermission(String permission) { throw new Error(); }
}
