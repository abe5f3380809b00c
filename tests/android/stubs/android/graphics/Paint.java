package android.graphics;

public class Paint {
    public static final int ANTI_ALIAS_FLAG = 1;
    public Paint() {}
    public Paint(int flags) {}
    public int getColor() { throw new Error(); }
    public void setColor(int color) {}
    public int getAlpha() { throw new Error(); }
    public void setAlpha(int a) {}
    public float getTextSize() { throw new Error(); }
    public void setTextSize(float textSize) {}
}
