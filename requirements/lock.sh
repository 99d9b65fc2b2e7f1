#!/bin/sh
# Resolves every requirements file for all supported platforms and Pythons, with hashes. Used by `make lock`.
# Versions stay as they are, except those of changed inputs; "1" takes the newest of everything, a name that of one package.
set -eu

case ${1:-} in
  '') upgrade= ;;
  1) upgrade=--upgrade ;;
  *) upgrade="--upgrade-package $1" ;;
esac

# No file names a package index (uv writes none unless told to): whoever installs decides where packages come from.
# One version for all Python versions where there is one: what is tested is then what is used.
# The order matters: each file constrains the next.
for name in layers/dependencies/requirements layers/embeddings/requirements layers/embeddings/weights requirements/local \
  requirements/dev requirements/ministack requirements/checkov requirements/openai-suite requirements/bench \
  requirements/litellm; do
  # What the layer of the embeddings needs is all named there.
  case $name in
    layers/embeddings/*) alone=--no-deps ;;
    *) alone= ;;
  esac
  # shellcheck disable=SC2086 # $upgrade and $alone are empty or several words
  "$BIN/uv" pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
    --custom-compile-command "make lock" $alone $upgrade "$name.in" --output-file "$name.txt"
done
