// The most probable next words, or those that begin with what has been typed of a word.
// A word of several tokens is found by a beam search; its probability is the sum over the ways to write it that were
// found.

import { wordSpans } from "./tokenizer.js";

const COUNT = 10; // words, and beams
const LONGEST = 30; // tokens of a word

/** Where the word under way begins in a line, and the position of the token before it. */
export function underWay(tokenizer, line, spans) {
  const ended = line === "" || /\p{White_Space}$/u.test(line);
  const last = tokenizer.kind === "word" ? spans.at(-1) : wordSpans(line).at(-1);
  const begin = ended ? line.length : last[0];
  const before = line.slice(0, begin).replace(/\p{White_Space}+$/u, "").length;
  return { begin, position: spans.filter(([, end]) => end <= before).length };
}

/**
 * Words with their probabilities, the most probable first; null if `stale()`, which is asked between steps, resolves to
 * true. `begun` is the part of the word that has been typed.
 */
export async function suggest(model, tokenizer, line, position, begun, stale) {
  const lead = tokenizer.kind !== "word" && position ? " " : "";
  const search = new Search(model, tokenizer, tokenizer.named(lead + begun), tokenizer.named(lead).length);
  let { state, last } = await line.at(position);
  let beams = [{ name: "", logProb: 0, last }];
  for (let step = 0; step < LONGEST && beams.length; step++) {
    if (await stale()) return null;
    const found = await model.call(beams.map((beam) => [beam.last]), state, beams.map(() => []));
    const next = search.step(beams, found.logProbs);
    state = model.rows(found.state, beams.length, next.map((beam) => beam.row));
    beams = next;
  }
  return search.best();
}

class Search {
  constructor(model, tokenizer, wanted, lead) {
    Object.assign(this, { tokenizer, wanted, lead, size: model.facts.vocab_size });
    this.found = new Map(); // probability by word
    const { names } = tokenizer;
    this.ends = names.map((name, id) => id === tokenizer.eos || tokenizer.spaced(name));
    this.usable = names.map((name, id) => id !== tokenizer.eos && id !== tokenizer.unk && !this.inner(name));
  }

  /** Whether a name has white space after its first character. */
  inner(name) {
    return [...name].slice(1).some((character) => this.tokenizer.spaced(character));
  }

  /** The beams after one more token, from the distributions [beams, V] after the last one. */
  step(beams, logProbs) {
    const next = [];
    beams.forEach((beam, row) => {
      const own = logProbs.subarray(row * this.size, (row + 1) * this.size);
      if (this.complete(beam.name)) this.finish(beam, own);
      this.extend(beam, row, own, next);
    });
    if (this.tokenizer.kind !== "word") return next.filter((beam) => beam.logProb > this.floor());
    for (const { name, logProb } of next) this.add(name, Math.exp(logProb));
    return [];
  }

  complete(name) {
    return name.length > this.lead && name.length >= this.wanted.length;
  }

  finish(beam, logProbs) {
    let ended = 0;
    this.ends.forEach((ends, id) => (ended += ends ? Math.exp(logProbs[id]) : 0));
    this.add(beam.name.slice(this.lead), Math.exp(beam.logProb) * ended);
  }

  /** Put the most probable extensions of a beam into `next`, which is sorted and holds at most `COUNT` of them. */
  extend(beam, row, logProbs, next) {
    for (let id = 0; id < this.size; id++) {
      const logProb = beam.logProb + logProbs[id];
      if (!this.usable[id] || (next.length === COUNT && logProb <= next[COUNT - 1].logProb)) continue;
      const name = beam.name + this.tokenizer.names[id];
      if (!this.fits(beam, name, id)) continue;
      const at = next.findIndex((other) => other.logProb < logProb);
      next.splice(at < 0 ? next.length : at, 0, { name, logProb, last: id, row });
      next.length = Math.min(next.length, COUNT);
    }
  }

  fits(beam, name, id) {
    if (this.ends[id] && (beam.name || !this.lead)) return false; // white space inside the word
    return name.length < this.wanted.length ? this.wanted.startsWith(name) : name.startsWith(this.wanted);
  }

  add(name, probability) {
    const word = this.tokenizer.text(name);
    if (word) this.found.set(word, (this.found.get(word) ?? 0) + probability);
  }

  best() {
    const words = [...this.found].map(([word, probability]) => ({ word, probability }));
    return words.sort((a, b) => b.probability - a.probability).slice(0, COUNT);
  }

  /** The logarithm of the smallest probability in the list, if it is full. */
  floor() {
    const words = this.best();
    return words.length < COUNT ? -Infinity : Math.log(words[COUNT - 1].probability);
  }
}
