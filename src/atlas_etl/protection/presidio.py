"""Microsoft Presidio for free texts: names of people and places, and what else its recognizers know."""

from __future__ import annotations

from collections.abc import Mapping

from atlas_etl.errors import MissingDriverError
from atlas_etl.protection.kinds import KINDS
from atlas_etl.protection.texts import Finder

_LEAST_SCORE = 0.4
_NO_PERSON = frozenset({"DATE_TIME", "URL", "NRP"})
_LOOKS_UP = ("EmailRecognizer", "UrlRecognizer")  # these fetch the list of public suffixes from the internet


def presidio_finder(language: str) -> tuple[Finder, str | None]:
    """What finds personal data in a text, and what a person should know of it.

    Names need a model of spaCy for the language; without one only patterns are found. Raises
    MissingDriverError.
    """
    try:
        import spacy
        from presidio_analyzer import AnalyzerEngine, Pattern, PatternRecognizer, RecognizerRegistry
        from presidio_analyzer.nlp_engine import SpacyNlpEngine
    except ImportError:
        raise MissingDriverError(
            "free texts are searched by Microsoft Presidio, which is not installed",
            hint='pip install "atlas-etl[presidio]", and a model: python -m spacy download en_core_web_lg',
        ) from None
    stem = f"{language}_core_{'web' if language in ('en', 'zh') else 'news'}"
    model = next(
        (f"{stem}_{size}" for size in ("lg", "md", "sm") if spacy.util.is_package(f"{stem}_{size}")), None
    )
    loaded = spacy.load(model) if model else spacy.blank(language)

    class Loaded(SpacyNlpEngine):
        """An engine that downloads nothing."""

        def load(self) -> None:
            self.nlp = {language: loaded}  # type: ignore[assignment]

    nlp = Loaded(models=[{"lang_code": language, "model_name": loaded.meta["name"]}])
    nlp.load()
    registry = RecognizerRegistry(supported_languages=[language])
    registry.load_predefined_recognizers(languages=[language], nlp_engine=nlp)
    for name in _LOOKS_UP:
        registry.remove_recognizer(name, language=language)
    email = next(kind for kind in KINDS if kind.name == "email")
    registry.add_recognizer(
        PatternRecognizer(
            "EMAIL_ADDRESS", patterns=[Pattern("email", email.shape, 1.0)], supported_language=language
        )
    )
    engine = AnalyzerEngine(registry=registry, nlp_engine=nlp, supported_languages=[language])

    def find(text: str) -> Mapping[str, float]:
        found: dict[str, float] = {}
        for each in engine.analyze(text, language=language, score_threshold=_LEAST_SCORE):
            if each.entity_type not in _NO_PERSON:
                name = each.entity_type.lower()
                found[name] = max(found.get(name, 0.0), float(each.score))
        return found

    note = None
    if model is None:
        note = (
            f"no model of spaCy is installed for {language!r}, so names of people and places in texts are "
            f"not found: python -m spacy download {stem}_lg"
        )
    return find, note
