package android.widget;

import android.view.View;

public abstract class AdapterView<T> extends View {
    public interface OnItemSelectedListener {
        void onItemSelected(AdapterView<?> parent, View view, int position, long id);
        void onNothingSelected(AdapterView<?> parent);
    }
    public AdapterView(android.content.Context context, android.util.AttributeSet attrs) { super(context, attrs); }
    public final OnItemSelectedListener getOnItemSelectedListener() { throw new Error(); }
    public void setOnItemSelectedListener(OnItemSelectedListener listener) {}
    public int getSelectedItemPosition() { throw new Error(); }
}
