// The network: one call of the graph, and a line that is read as it is typed.
// Shapes: N rows, T steps, K known targets, V tokens; a state is { h, c }, each [layers, N, units] in one array.

/** A model file in an onnxruntime session. */
export class Model {
  constructor(runtime, session, facts) {
    Object.assign(this, { runtime, session, facts });
  }

  zeros() {
    const size = this.facts.layers * this.facts.units;
    return { h: new Float32Array(size), c: new Float32Array(size) };
  }

  /** Call the graph with rows of inputs and rows of targets, which may be empty; docs/reference/onnx-file.md. */
  async call(inputs, state, targets) {
    const { Tensor } = this.runtime, { layers, units } = this.facts;
    const ids = (rows) => new Tensor("int64", BigInt64Array.from(rows.flat(), BigInt), [rows.length, rows[0].length]);
    const part = (values) => new Tensor("float32", values, [layers, inputs.length, units]);
    const feed = { input_ids: ids(inputs), h0: part(state.h), c0: part(state.c), targets: ids(targets) };
    const found = await this.session.run(feed, ["log_probs", "target_log_probs", "next_h0", "next_c0"]);
    return {
      logProbs: found.log_probs.data, // [N, T - K, V]
      targetLogProbs: found.target_log_probs.data, // [N, K]
      state: { h: found.next_h0.data, c: found.next_c0.data },
    };
  }

  /** The states of some rows of `count`, in one. */
  rows(state, count, wanted) {
    const { layers, units } = this.facts;
    const select = (values) => {
      const found = new Float32Array(layers * wanted.length * units);
      for (let layer = 0; layer < layers; layer++)
        wanted.forEach((row, at) => {
          const from = (layer * count + row) * units;
          found.set(values.subarray(from, from + units), (layer * wanted.length + at) * units);
        });
      return found;
    };
    return { h: select(state.h), c: select(state.c) };
  }
}

/** A line and its end symbol. What has not changed since the previous call is not computed again. */
export class Line {
  constructor(model) {
    this.model = model;
    this.eos = model.facts.eos_id;
    this.ids = []; // with the end symbol
    this.logProbs = []; // natural logarithms
    this.states = new Map([[0, model.zeros()]]); // by position: after every token before the previous one
  }

  /** Natural logarithms of the probabilities of the tokens and of the end symbol. */
  async read(ids) {
    const line = [...ids, this.eos], whole = this.model.facts.precision === "int8";
    let common = 0;
    while (common < line.length && line[common] === this.ids[common]) common++;
    // 8-bit scores depend on the tokens of a call: the line is read at once, as keraslm does.
    if (whole) common = 0;
    for (const at of [...this.states.keys()]) if (at > common) this.states.delete(at);
    this.ids = line;
    if (!whole) await this.advance(ids.length); // where the next text will continue
    await this.advance(line.length);
    return this.logProbs.slice(0, line.length);
  }

  /** The state at a position, and the token that is to be read next. */
  async at(position) {
    await this.advance(position);
    return { state: this.states.get(position), last: this.last(position) };
  }

  last(position) {
    return position ? this.ids[position - 1] : this.eos;
  }

  async advance(position) {
    let from = Math.max(...[...this.states.keys()].filter((at) => at <= position));
    while (from < position) {
      const end = this.ids.indexOf(this.eos, from); // ends a sentence, also if it was written in the text
      const until = Math.min(position, end < 0 ? position : end + 1, from + this.model.facts.steps);
      const targets = this.ids.slice(from, until), inputs = [this.last(from), ...targets.slice(0, -1)];
      const found = await this.model.call([inputs], this.states.get(from), [targets]);
      found.targetLogProbs.forEach((value, at) => (this.logProbs[from + at] = value));
      this.states.set(until, this.last(until) === this.eos ? this.model.zeros() : found.state);
      from = until;
    }
  }
}
