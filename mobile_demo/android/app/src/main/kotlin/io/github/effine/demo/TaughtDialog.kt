package io.github.effine.demo

import android.app.Activity
import android.app.AlertDialog
import android.view.View
import android.view.ViewGroup
import android.widget.ArrayAdapter
import android.widget.TextView
import io.github.effine.StoredExample

/** The sentences of an intent, the latest first, each with a button to [forget] it by its id. */
internal class TaughtDialog(
    private val activity: Activity,
    private val title: String,
    private val taught: List<StoredExample>,
    private val forget: (Long) -> Unit,
) {
    fun show() {
        val adapter = Rows()
        val dialog = AlertDialog.Builder(activity)
            .setTitle(title)
            .setAdapter(adapter, null)
            .setPositiveButton(R.string.done, null)
            .create()
        adapter.emptied = dialog::dismiss
        dialog.show()
    }

    private inner class Rows : ArrayAdapter<StoredExample>(activity, R.layout.example, R.id.text, taught.asReversed().toMutableList()) {
        var emptied: () -> Unit = {}

        override fun areAllItemsEnabled() = false

        override fun isEnabled(position: Int) = false

        override fun getView(position: Int, old: View?, parent: ViewGroup): View {
            val row = old ?: activity.layoutInflater.inflate(R.layout.example, parent, false)
            val stored = getItem(position)!!
            row.findViewById<TextView>(R.id.text).text = stored.example.text
            row.findViewById<View>(R.id.remove).setOnClickListener {
                forget(stored.id)
                remove(stored)
                if (isEmpty) emptied()
            }
            return row
        }
    }
}
