const text = document.getElementById("t"), tip = document.getElementById("tip");
const data = JSON.parse(document.getElementById("d").textContent);
const countOf = (element) => Number(element.dataset.n ?? 1);
const firsts = [0]; // the first token of each piece
for (const element of text.getElementsByTagName("i")) firsts.push(firsts[firsts.length - 1] + countOf(element));

function token(at) {
  const [id, logprob, rank, entropy] = data.tokens.slice(at * data.width, (at + 1) * data.width);
  return { token: data.names[id], id, unknown: id === data.unk, logprob, rank, entropy };
}

function fill(element, place) {
  const count = countOf(element), tokens = Array.from({ length: count }, (_, at) => token(firsts[place] + at)), most = 4;
  const parts = tokens.map(({ logprob }) => logprob), [, bit] = data.units;
  const line = `line ${element.parentNode.id}`, word = element.dataset.s;
  const missing = element.classList.contains("U") && data.excluded ? "left out" : "not finite";
  const sum = parts.includes(null) ? null : -parts.reduce((a, b) => a + b, 0) * (data.nats[0] / data.nats[1]);
  const value = word === undefined ? sum : word === "null" ? null : Number(word);
  const text = value === null ? missing : finite(value, word === undefined ? 2 : 3, bit);
  const what = word === undefined ? `${count} tokens together` : `word of ${count} token${count === 1 ? "" : "s"}`;
  const caption = count === 1 && word === undefined ? line : `${line}: ${what}, ${text}`;
  const columns = tokens.slice(0, most).map((each) => numbers(each, data));
  tip.replaceChildren(numbersTable(caption, columns, count > most));
}

showTips(text, tip, fill);
