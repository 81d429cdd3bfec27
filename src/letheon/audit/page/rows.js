"use strict";
// Searches the table of rows; without it the table is whole. The address may ask too: report.html#search=oslo&show=attention
const bar = document.querySelector(".search");
if (bar) {
  const [words, show, told] = ["search", "show", "told"].map((name) => document.getElementById(name));
  const rows = [...document.querySelectorAll("table.rows > tbody > tr")];
  const plain = (text) => text.normalize("NFKC").toLowerCase();
  const texts = rows.map((row) => plain(row.textContent));
  const choose = () => {
    const wanted = plain(words.value).split(/\s+/).filter(Boolean);
    let count = 0;
    rows.forEach((row, i) => {
      const kind = show.value === "all" || show.value === row.dataset.state || show.value === row.dataset.subset;
      row.hidden = !(kind && wanted.every((word) => texts[i].includes(word)));
      count += row.hidden ? 0 : 1;
    });
    told.textContent = `${count} of ${rows.length} shown`;
  };
  const asked = new URLSearchParams(location.hash.slice(1));
  words.value = asked.get("search") || "";
  if ([...show.options].some((option) => option.value === asked.get("show"))) show.value = asked.get("show");
  words.addEventListener("input", choose);
  show.addEventListener("change", choose);
  bar.hidden = false;
  choose();
}
