// Live progress of a run: the server sends its state, its progress and the end of its log.
for (const box of document.querySelectorAll("[data-events]")) {
  const part = (name) => box.querySelector(`[data-part="${name}"]`);
  const source = new EventSource(box.dataset.events);
  source.onmessage = (event) => {
    const run = JSON.parse(event.data);
    part("state").textContent = run.state;
    part("words").textContent = run.words;
    part("took").textContent = run.took;
    const bar = part("progress");
    if (run.total) { bar.max = run.total; bar.value = run.done; }
    const log = part("log");
    const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
    log.textContent = run.log || "Nothing yet.";
    if (atEnd) log.scrollTop = log.scrollHeight;
    if (run.state !== "queued" && run.state !== "running") { source.close(); location.reload(); }
  };
}

// The filters are drawn anew with their counts: the keyboard stays on the one that was used.
let used = "";
document.addEventListener("htmx:beforeSwap", () => { used = document.activeElement ? document.activeElement.id : ""; });
document.addEventListener("htmx:afterSettle", () => {
  const again = used && document.activeElement === document.body ? document.getElementById(used) : null;
  if (again) again.focus();
});
