package android.view;

public class View {
    public interface OnClickListener { void onClick(View v); }
    public View(android.content.Context context, android.util.AttributeSet attrs) {}
    public final android.content.Context getContext() { throw new Error(); }
    public android.content.res.Resources getResources() { throw new Error(); }
    public final int getWidth() { throw new Error(); }
    public final int getHeight() { throw new Error(); }
    public boolean isEnabled() { throw new Error(); }
    public void setEnabled(boolean enabled) {}
    public boolean getKeepScreenOn() { throw new Error(); }
    public void setKeepScreenOn(boolean keepScreenOn) {}
    public CharSequence getContentDescription() { throw new Error(); }
    public void setContentDescription(CharSequence contentDescription) {}
    public void setOnClickListener(OnClickListener l) {}
    public void invalidate() {}
    protected void onDraw(android.graphics.Canvas canvas) {}
}
