"""Writes reference_scores.json: pairs of texts and their scores by the public libraries whose measures ours equal.

Run it in an environment of its own, with nltk 3.10, rouge-score 0.1.2 and sacrebleu 2.6:

    cd tests/tuneyard/evaluation/similarity && python reference_scores.py > reference_scores.json
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version

PAIRS = [
    ("the cat sat on the mat", "the cat is on the mat"),
    ("the cat sat on the mat", "the cat sat on the mat"),
    ("The Eiffel Tower, located in Paris, was built in 1889.", "Built in 1889, the Eiffel Tower stands in Paris."),
    ("fuzzy wuzzy was a bear", "fuzzy wuzzy had no hair"),
    ("Paris", "Paris"),
    ("Paris", "London"),
    ("", "something was expected"),
    ("something came", ""),
    ("", ""),
    ("...", "!!!"),
    ("It is a guide to action which ensures that the military always obeys the commands of the party",
     "It is a guide to action that ensures that the military will forever heed Party commands"),
    ("He was running and jumping happily over the walls", "He runs, and he jumped happy over a wall"),
    ("Error E47: replace the seal (part no. 12-345), then restart.", "E47 means the seal 12-345 must be replaced."),
    ("one two three four five six", "six five four three two one"),
    ("a a a a a a", "a a"),
    ("Total: $1,234.56 & counting", "The total is 1,234.56 dollars &amp; counting"),
    ("state-of-the-art 3-4 weeks", "state of the art, 3 to 4 weeks"),
    ("yes", "Yes."),
    ("line one\nline two hyphen-\nated", "line one line two hyphenated"),
    ("The generously connected relational organizations", "Generous connections relate to organized generations"),
]  # fmt: skip


def scores(text: str, reference: str) -> dict[str, float]:
    """The scores of the text by each library."""
    import sacrebleu
    from nltk.stem.porter import PorterStemmer
    from nltk.translate.gleu_score import sentence_gleu
    from nltk.translate.meteor_score import single_meteor_score
    from rouge_score.rouge_scorer import RougeScorer

    class NoSynonyms:
        """WordNet without words."""

        def synsets(self, _: str) -> list[object]:
            return []

    def split(line: str) -> list[str]:
        return sacrebleu.BLEU(effective_order=True).tokenizer(line).split()

    kinds = [*(f"rouge{n}" for n in range(1, 6)), "rougeL"]
    rouge = RougeScorer(kinds, use_stemmer=False).score(reference, text)
    stemmer = PorterStemmer(mode=PorterStemmer.ORIGINAL_ALGORITHM)
    lower = (split(reference.lower()), split(text.lower()))
    return {
        "bleu": sacrebleu.sentence_bleu(text, [reference]).score / 100,
        "gleu": sentence_gleu([split(reference)], split(text)),
        "meteor": single_meteor_score(*lower, stemmer=stemmer, wordnet=NoSynonyms()),
        **{f"rouge_{kind[5:].lower()}": rouge[kind].fmeasure for kind in kinds},
    }


def main() -> None:
    """Prints the file."""
    versions = {name: version(name) for name in ("nltk", "rouge-score", "sacrebleu")}
    rows = [{"text": text, "reference": reference, "scores": scores(text, reference)} for text, reference in PAIRS]
    json.dump({"versions": versions, "rows": rows}, sys.stdout, indent=1, ensure_ascii=False)
    print()


if __name__ == "__main__":
    main()
