"use strict";
// The browser of questions: search, filters and pages over the JSON in #questions-data. Texts become text nodes only.
(() => {
  const { questions, images } = JSON.parse(document.getElementById("questions-data").textContent);
  const root = document.getElementById("browser");
  const form = root.querySelector("form"), list = root.querySelector(".list");
  const PER_PAGE = 10, LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", EPSILON = 0.005;
  const LOOKS = { supporting: "high", irrelevant: "neutral", false: "low", invented: "low", repeated: "low" };
  let page = 0;

  const make = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  };
  const letter = (index) => LETTERS[index] ?? String(index + 1);
  const count = (number) => number.toLocaleString("en-US");
  const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);

  // What is searched and filtered by, computed once.
  for (const q of questions) {
    const texts = [q.pid, q.question, q.hint, ...q.choices, ...q.versions.flatMap((v) => v.sentences),
      ...q.pairs.flatMap((p) => [...p.chosen.sentences, ...p.rejected.sentences])];
    q.text = texts.join("\n").toLowerCase();
    const [first, last] = [q.versions[0], q.versions[q.versions.length - 1]];
    const known = q.versions.length > 1 && first.quality !== null && last.quality !== null;
    q.gain = known ? last.quality - first.quality : null;
    q.change = q.gain === null ? "unknown" : q.gain > EPSILON ? "improved" : q.gain < -EPSILON ? "worsened" : "unchanged";
    const rights = q.answer === null ? [] : q.answers.map((a) => a.choice === q.answer);
    const now = rights[rights.length - 1];
    q.right = now === undefined ? [] : [now ? "right" : "wrong"];
    if (rights.length > 1 && rights[0] !== now) q.right.push(now ? "became right" : "became wrong");
  }
  const filters = {
    kind: (q) => [q.kind], split: (q) => [q.split], change: (q) => [q.change], right: (q) => q.right,
  };
  for (const [name, values] of Object.entries(filters)) {
    const counts = new Map();
    for (const q of questions) for (const value of values(q)) counts.set(value, (counts.get(value) ?? 0) + 1);
    const options = [...counts].sort(([a], [b]) => (a < b ? -1 : 1));
    form.elements[name].append(make("option", { value: "", textContent: "all" }));
    for (const [value, found] of options)
      form.elements[name].append(make("option", { value, textContent: `${value || "–"} (${count(found)})` }));
  }

  const matching = () => {
    const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    return questions.filter((q) =>
      words.every((word) => q.text.includes(word)) &&
      Object.entries(filters).every(([name, values]) => {
        const select = form.elements[name];
        return select.selectedIndex <= 0 || values(q).includes(select.value);
      }));
  };

  const choices = (q) => make("ol", { className: "choices" }, ...q.choices.map((choice, index) => {
    const item = make("li", { className: index === q.answer ? "gold" : "" }, `${letter(index)}. ${choice}`);
    if (index === q.answer) item.append(make("span", { title: "the gold answer" }, " ✓", make("span", { className: "hidden" }, " gold answer")));
    const chosen = q.answers.filter((a) => a.choice === index).map((a) => a.name);
    if (chosen.length) item.append(make("span", { className: "chosen" }, ` ◂ ${chosen.join(", ")}`));
    return item;
  }));

  const sentence = (text, label) => {
    const item = make("li", { className: LOOKS[label] ?? "" });
    if (label) item.append(make("b", {}, label));
    item.append(make("span", {}, text));
    return item;
  };
  const version = (q, v, index) => {
    const title = make("h4", {}, make("b", {}, v.name));
    if (v.quality !== null) title.append(make("span", { className: "number" }, `${root.dataset.measure} ${v.quality.toFixed(2)}`));
    const first = q.versions[0].quality;
    if (index && v.quality !== null && first !== null) {
      const gain = v.quality - first, kind = gain > EPSILON ? "up" : gain < -EPSILON ? "down" : "";
      title.append(make("span", { className: `gain number ${kind}` }, `${{ up: "▲", down: "▼", "": "=" }[kind]} ${Math.abs(gain).toFixed(2)}`));
    }
    const body = v.sentences.length
      ? make("ol", { className: "sentences" }, ...v.sentences.map((text, i) => sentence(text, v.labels?.[i])))
      : make("p", { className: "soft small" }, "An empty rationale.");
    return make("div", {}, title, body);
  };
  const sample = (s, title, common) => make("div", {}, make("h4", {}, make("b", {}, title)),
    make("ol", { className: "sentences" }, ...s.sentences.map((text, i) => {
      const score = s.scores?.[i], advantage = s.advantages?.[i];
      const kind = score === undefined ? "" : score > 0.5 ? "high" : score < 0.5 ? "low" : "neutral";
      const numbers = make("b", { className: "scores" },
        make("span", { title: "the Teacher's score" }, score === undefined ? "–" : score.toFixed(2)),
        advantage === undefined ? null : make("i", { title: "advantage" }, signed(advantage)));
      const known = s.scores || !common ? numbers : null; // pairs need not have been scored
      return make("li", { className: kind }, known, make("span", { className: common?.includes(text) ? "soft" : "" }, text));
    })));
  const samples = (q) => {
    if (!q.samples.length) return null;
    const scored = q.samples.some((s) => s.scores), advantages = q.samples.some((s) => s.advantages);
    const what = scored ? ` with the Teacher's score${advantages ? " and the advantage" : ""} of each sentence` : "";
    return make("details", { className: "samples" },
      make("summary", {}, `${q.samples.length} sampled rationales${what}`),
      make("div", { className: "sides" }, ...q.samples.map((s, i) => sample(s, `sample ${i + 1}`))));
  };
  const ORIGINS = { rollouts: "two rollouts", same_prefix: "two rollouts that begin alike", corrections: "a rationale and its repair", brought: "of the data" };
  const pair = (p) => make("details", { className: "samples", open: true },
    make("summary", {}, `Preference pair: ${ORIGINS[p.origin] ?? p.origin}; sentences of both sides are gray`),
    make("div", { className: "sides" },
      sample(p.chosen, "chosen", p.rejected.sentences), sample(p.rejected, "rejected", p.chosen.sentences)));
  const VERDICTS = { a: "the judge prefers the last rationale", b: "the judge prefers the first rationale", tie: "a tie for the judge" };
  const card = (q) => {
    const unread = q.answers.filter((a) => a.choice === null).map((a) => a.name);
    const meta = [`Problem ${q.pid}`, q.split, q.kind, VERDICTS[q.verdict], unread.length ? `no readable answer ${unread.join(", ")}` : ""];
    const asked = make("div", {}, make("p", { className: "soft small" }, meta.filter(Boolean).join(" · ")), make("h3", {}, q.question),
      q.hint ? make("p", { className: "soft small hint" }, q.hint) : null, choices(q));
    const pictures = q.images.map((key, index) => make("img", {
      src: images[key], loading: "lazy", alt: `Image${q.images.length > 1 ? ` ${index + 1}` : ""} of problem ${q.pid}`,
    }));
    return make("article", { className: "card question", tabIndex: -1 }, make("div", { className: "asked" }, asked, ...pictures),
      q.versions.length ? make("div", { className: "sides" }, ...q.versions.map((v, i) => version(q, v, i))) : null,
      ...q.pairs.map(pair), samples(q));
  };

  const draw = () => {
    const found = matching(), pages = Math.max(1, Math.ceil(found.length / PER_PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    const shown = found.slice(page * PER_PAGE, (page + 1) * PER_PAGE);
    list.replaceChildren(...shown.map(card));
    if (!shown.length) list.append(make("p", { className: "empty" }, "No question matches."));
    const start = page * PER_PAGE + 1;
    const text = shown.length ? `${count(start)}–${count(start + shown.length - 1)} of ${count(found.length)} questions, page ${count(page + 1)} of ${count(pages)}` : "0 questions";
    for (const output of root.querySelectorAll("output")) output.textContent = text;
    for (const button of root.querySelectorAll("button")) button.disabled = !(0 <= page + Number(button.dataset.step) && page + Number(button.dataset.step) < pages);
  };
  const turn = (step) => {
    page += step;
    draw();
    root.scrollIntoView();
    list.firstElementChild?.focus({ preventScroll: true });
  };
  form.addEventListener("input", () => { page = 0; draw(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  for (const button of root.querySelectorAll("button")) button.addEventListener("click", () => turn(Number(button.dataset.step)));
  document.addEventListener("keydown", (event) => {
    if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") { event.preventDefault(); form.elements.text.focus(); }
    const step = { n: 1, p: -1 }[event.key];
    if (step && !root.querySelector(`button[data-step="${step}"]`).disabled) turn(step);
  });
  root.hidden = false;
  draw();
})();
