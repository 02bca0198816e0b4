#!/bin/sh
# Surprisal of made-up items by region and by word, and a figure.
#     sh examples/reading_times/run.sh MODEL [FOLDER]
set -eu
model=$1
here=$(dirname "$0")
out=${2:-runs/reading_times}
mkdir -p "$out"
keraslm score "$model" "$here/items.csv" --text-column sentence --region-separator '|' --level region \
  --columns region,text,length,surprisal,entropy,surprisal_lag1 --output "$out/regions.csv"
keraslm score "$model" "$here/items.csv" --text-column sentence --region-separator '|' --level word \
  --columns word_id,word,region,oov,length,surprisal,surprisal_lag1,surprisal_lag2,entropy --no-eos --output "$out/words.csv"
head -6 "$out/regions.csv"
python3 "$here/figure.py" "$out/regions.csv" "$out/regions.png"
