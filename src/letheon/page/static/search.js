// Search in a page without a server: the index (word -> places and weights) stands in the page itself.
const index = JSON.parse(document.getElementById("index").textContent);
const vocabulary = Object.keys(index.words);
const FIELD = /\b(author|year|verdict|badge|wing|source):("[^"]*"|\S*)/gi;
const ARXIV = /(\d{4}\.\d{4,5})(?:v\d+)?/;

const wordsOf = (text) => text.toLowerCase().normalize("NFKD").replace(/\p{M}/gu, "").match(/[\p{L}\p{N}]+/gu) || [];

// Inserted, deleted, replaced and swapped letters between two words.
function distance(one, other) {
  let earlier = [], before = [], row = Array.from({ length: other.length + 1 }, (_, j) => j);
  for (let i = 1; i <= one.length; i++) {
    [earlier, before, row] = [before, row, [i]];
    for (let j = 1; j <= other.length; j++) {
      let best = Math.min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (one[i - 1] !== other[j - 1]));
      if (i > 1 && j > 1 && one[i - 1] === other[j - 2] && one[i - 2] === other[j - 1]) best = Math.min(best, earlier[j - 2] + 1);
      row.push(best);
    }
  }
  return row[other.length];
}

function matching(word) {
  const begun = vocabulary.filter((known) => known.startsWith(word));
  if (begun.length || word.length < 4) return [begun, word];
  const limit = word.length <= 7 ? 1 : 2;
  let near = "", least = limit + 1;
  for (const known of vocabulary) {
    if (Math.abs(known.length - word.length) > limit) continue;
    const edits = distance(word, known);
    if (edits < least) [near, least] = [known, edits];
  }
  return near ? [[near], near] : [[], word];
}

function allowed(paper, name, value) {
  if (!value) return true;
  if (name === "author") return wordsOf(value).every((part) => wordsOf(paper.authors).some((word) => word.startsWith(part)));
  if (name === "year") {
    const [first, last] = value.split("-");
    return paper.year !== "" && first <= paper.year && paper.year <= (last || (value.includes("-") ? "9999" : first));
  }
  if (name === "verdict" && paper.verdict.endsWith("*") && !value.endsWith("*")) return false;
  return paper[name].toLowerCase().startsWith(value.toLowerCase());
}

function search(text) {
  const fields = [...text.matchAll(FIELD)].map((match) => [match[1].toLowerCase(), match[2].replaceAll('"', "")]);
  text = text.replace(FIELD, " ");
  const id = text.match(ARXIV);
  const words = id ? [] : wordsOf(text), corrected = [], scores = new Map();
  for (const word of words) {
    const [begun, used] = matching(word);
    if (used !== word) corrected.push([word, used]);
    const best = new Map();
    for (const known of begun) {
      const places = index.words[known], rarity = Math.log(1 + (2 * index.papers.length) / places.length);
      for (let i = 0; i < places.length; i += 2) {
        const score = places[i + 1] * rarity * (known === used ? 2 : 1);
        best.set(places[i], Math.max(best.get(places[i]) || 0, score));
      }
    }
    for (const [place, score] of best) scores.set(place, (scores.get(place) || 0) + 10 + score);
  }
  let hits = index.papers.map((paper, place) => [paper, scores.get(place) || 0]);
  if (words.length) hits = hits.filter((hit) => hit[1]);
  if (id) hits = hits.filter((hit) => hit[0].arxiv === id[1]);
  hits = hits.filter(([paper]) => fields.every(([name, value]) => allowed(paper, name, value)));
  return [hits.sort((a, b) => b[1] - a[1]).map((hit) => hit[0]), corrected];
}

function element(name, text, className) {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function show() {
  const text = document.getElementById("q").value.trim(), results = document.getElementById("results");
  const [papers, corrected] = text ? search(text) : [[], []];
  results.replaceChildren(...papers.map((paper) => {
    const card = element("article", "", "card"), heading = element("h2", ""), link = element("a", paper.title);
    link.href = `papers/${encodeURIComponent(paper.key)}.html`;
    link.dir = "auto";
    heading.append(link);
    card.append(heading, element("p", [paper.authors, paper.year, paper.verdict, paper.badge].filter(Boolean).join(" · "), "by"));
    return card;
  }));
  const instead = corrected.map(([word, used]) => `; searched for ${used} instead of ${word}`).join("");
  document.getElementById("count").textContent = text ? `${papers.length} paper${papers.length === 1 ? "" : "s"}${instead}` : "";
}

document.getElementById("q").addEventListener("input", show);
document.querySelector("form").addEventListener("submit", (event) => { event.preventDefault(); show(); });
show();
