package android.app;

import android.content.Intent;
import android.os.Bundle;
import android.view.View;

public class Activity extends android.content.Context {
    protected void onCreate(Bundle savedInstanceState) {}
    protected void onStart() {}
    protected void onStop() {}
    protected void onDestroy() {}
    public final Application getApplication() { throw new Error(); }
    public void setContentView(int layout) {}
    public <T extends View> T findViewById(int id) { throw new Error(); }
    public boolean isChangingConfigurations() { throw new Error(); }
    public boolean isFinishing() { throw new Error(); }
    public final void requestPermissions(String[] permissions, int requestCode) {}
    public void onRequestPermissionsResult(int requestCode, String[] permissions, int[] grantResults) {}
    public void startActivityForResult(Intent intent, int requestCode) {}
    protected void onActivityResult(int requestCode, int resultCode, Intent data) {}
}
