// Text to token ids, as the tokenizer of the run does it. `file` is tokenizer.json, `facts` is model.json.
// Positions in a line are those of JavaScript strings, in UTF-16 units.

const SPACE = /\p{White_Space}/u;
const WORDS = /\P{White_Space}+/gu;
const MARKS = /<unk>|<eos>|[\p{P}$+<=>^`|~]/gu;
const GPT2 = new RegExp(
  String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+` +
    String.raw`|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+`, "gu");
const SURROGATE = /\p{Surrogate}/gu; // half of a pair

/** The character that represents each byte in a byte-level vocabulary, as defined by GPT-2. */
export function byteNames() {
  let next = 256;
  const printable = (byte) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : next++));
}

/** Start and end of each word of a line, which white space separates. */
export const wordSpans = (line) =>
  [...line.matchAll(WORDS)].map((found) => [found.index, found.index + found[0].length]);

export class Tokenizer {
  constructor(file, facts) {
    Object.assign(this, { kind: facts.kind, lowercase: facts.lowercase, split: facts.split });
    Object.assign(this, { unk: facts.unk_id, eos: facts.eos_id });
    this.vocabulary = new Map(Object.entries(file.model.vocab));
    this.names = [];
    for (const [name, id] of this.vocabulary) this.names[id] = name;
    this.ranks = new Map((file.model.merges ?? []).map((pair, rank) => [pair.join(" "), rank]));
    this.bytes = byteNames();
    this.byteOf = new Map(this.bytes.map((name, byte) => [name, byte]));
    this.spaces = new Set(this.kind === "bytes" ? [..."\t\v\f\r "].map((c) => this.bytes[c.charCodeAt(0)]) : []);
  }

  /** Ids of a line without the end symbol, and the start and end of each token in the line. */
  encode(line) {
    const { text, from, until } = this.lowered(line.replace(SURROGATE, "\ufffd"));
    const ids = [], spans = [];
    for (const [id, begin, end] of this.tokens(text)) {
      ids.push(id);
      spans.push([from[begin], until[end - 1]]);
    }
    return { ids, spans };
  }

  /** The words of a line and its end, each with its tokens [first, last), as `keraslm score --level word` has them. */
  words(line, spans) {
    const words = [...wordSpans(line), [line.length, line.length]], edges = [0];
    spans.forEach(([begin, end], token) => {
      const inside = line.slice(begin, end).search(/\P{White_Space}/u);
      const place = inside < 0 ? begin : begin + inside;
      while (edges.length < words.length && place >= words[edges.length - 1][1]) edges.push(token);
    });
    while (edges.length <= words.length) edges.push(edges.length < words.length ? spans.length : spans.length + 1);
    return words.map(([begin, end], number) => ({ begin, end, first: edges[number], last: edges[number + 1] }));
  }

  /** The name that a text has in the vocabulary, without merges. */
  named(text) {
    const { text: lowered } = this.lowered(text);
    if (this.kind !== "bytes") return lowered;
    return Array.from(new TextEncoder().encode(lowered), (byte) => this.bytes[byte]).join("");
  }

  /** The text of a name of the vocabulary; null for bytes that are no characters. */
  text(name) {
    if (this.kind !== "bytes") return name;
    try {
      return new TextDecoder("utf-8", { fatal: true }).decode(Uint8Array.from(name, (c) => this.byteOf.get(c)));
    } catch {
      return null;
    }
  }

  /** Whether a name of the vocabulary begins with white space. */
  spaced(name) {
    return this.kind === "bytes" ? this.spaces.has(name[0]) : SPACE.test(name[0] ?? "");
  }

  /** The text in lower case, each character on its own, and the positions in `line` of each unit of it. */
  lowered(line) {
    let text = "";
    const from = [], until = [];
    let at = 0;
    for (const character of line) {
      const lower = this.lowercase ? character.toLowerCase() : character;
      for (let unit = 0; unit < lower.length; unit++) {
        from.push(at);
        until.push(at + character.length);
      }
      text += lower;
      at += character.length;
    }
    return { text, from, until };
  }

  /** Each token as [id, start, end]. */
  *tokens(text) {
    if (this.kind === "bytes") {
      const parts = this.split ? text.matchAll(GPT2) : text ? [{ 0: text, index: 0 }] : [];
      for (const part of parts) yield* this.merged(part[0], part.index);
    } else {
      const spans = this.kind === "char" ? characterSpans : this.split ? markSpans : wordSpans;
      for (const [begin, end] of spans(text))
        yield [this.vocabulary.get(text.slice(begin, end)) ?? this.unk, begin, end];
    }
  }

  /** The tokens of a word of BPE: the bytes, of which the pair that was learnt first is joined, until none is left. */
  *merged(word, start) {
    const parts = [];
    for (const [begin, end] of characterSpans(word))
      for (const byte of new TextEncoder().encode(word.slice(begin, end))) parts.push([this.bytes[byte], begin, end]);
    while (this.ranks.size) {
      let best = Infinity, at = -1;
      for (let left = 0; left + 1 < parts.length; left++) {
        const rank = this.ranks.get(`${parts[left][0]} ${parts[left + 1][0]}`) ?? Infinity;
        if (rank < best) [best, at] = [rank, left];
      }
      if (at < 0) break;
      const [left, right] = [parts[at], parts[at + 1]];
      parts.splice(at, 2, [left[0] + right[0], left[1], right[2]]);
    }
    for (const [name, begin, end] of parts) yield [this.vocabulary.get(name), start + begin, start + end];
  }
}

function* characterSpans(text) {
  let at = 0;
  for (const character of text) yield [at, (at += character.length)];
}

/** Words, in which each punctuation mark is a word of its own. */
function* markSpans(text) {
  for (const [begin, end] of wordSpans(text)) {
    let at = begin;
    for (const mark of text.slice(begin, end).matchAll(MARKS)) {
      if (begin + mark.index > at) yield [at, begin + mark.index];
      yield [begin + mark.index, (at = begin + mark.index + mark[0].length)];
    }
    if (at < end) yield [at, end];
  }
}
