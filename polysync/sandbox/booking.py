"""The agent that a sandbox has by default: it takes bookings for a restaurant.

It is there to be talked to, so it shows all that the protocol can do: it streams,
offers suggestions, shows attachments and a telephone number, changes the language,
hands over to a human and ends the conversation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from polysync.sandbox.answers import Handoff, Leave, Push, Reply, Turn

__all__ = ["BookingAgent"]

_PHRASES: Mapping[str, Mapping[str, str]] = {
    "en-US": {
        "greeting": "Hello, this is the Harbour Table. Would you like to book a table?",
        "people": "With pleasure. For how many people?",
        "time": "A table for {people}. When would you like to come?",
        "confirm": "A table for {people}, {time}. Shall I book it?",
        "booked": "Your table for {people}, {time}, is booked. See you then!",
        "dropped": "Alright, nothing is booked. Is there anything else?",
        "menu": "Here is our menu.",
        "phone": "You can reach us by telephone, every day from noon.",
        "human": "Of course, I will put you through to a colleague.",
        "bye": "Thank you for talking to us. Goodbye!",
        "language": "Of course, let us go on in English.",
        "lost": "I can book a table, show you the menu, or put you through to a human.",
        "yes": "Yes, please",
        "no": "No, thank you",
        "tonight": "Tonight at 7 pm",
        "tomorrow": "Tomorrow at 8 pm",
        "see menu": "See the menu",
        "talk": "Talk to a human",
        "book": "Book a table",
    },
    "es-ES": {
        "greeting": "Hola, aquí Harbour Table. ¿Quiere reservar una mesa?",
        "people": "Con mucho gusto. ¿Para cuántas personas?",
        "time": "Una mesa para {people}. ¿Cuándo quiere venir?",
        "confirm": "Una mesa para {people}, {time}. ¿La reservo?",
        "booked": "Su mesa para {people}, {time}, está reservada. ¡Hasta entonces!",
        "dropped": "De acuerdo, no reservo nada. ¿Algo más?",
        "menu": "Aquí tiene nuestra carta.",
        "phone": "Puede llamarnos todos los días a partir del mediodía.",
        "human": "Por supuesto, le paso con un compañero.",
        "bye": "Gracias por hablar con nosotros. ¡Adiós!",
        "language": "De acuerdo, seguimos en español.",
        "lost": "Puedo reservar, mostrarle la carta o pasarle con una persona.",
        "yes": "Sí, por favor",
        "no": "No, gracias",
        "tonight": "Esta noche a las 19:00",
        "tomorrow": "Mañana a las 20:00",
        "see menu": "Ver la carta",
        "talk": "Hablar con una persona",
        "book": "Reservar una mesa",
    },
}

_LANGUAGES = {
    "en-US": re.compile(r"\b(?:in|speak) english\b|\binglés\b|\bingles\b", re.I),
    "es-ES": re.compile(r"\bspanish\b|\bespañol\b|\bespanol\b", re.I),
}
_BYE = re.compile(r"\b(?:good)?bye\b|\bthat'?s all\b|\badi[oó]s\b", re.I)
_HUMAN = re.compile(r"\b(?:human|person|manager|colleague|persona|someone)\b", re.I)
_MENU = re.compile(r"\b(?:menu|carta|food|dishes)\b", re.I)
_PHONE = re.compile(r"\b(?:phone|telephone|call|llamar|tel[eé]fono)\b", re.I)
_BOOK = re.compile(r"\b(?:book|table|reserv\w*|mesa)\b", re.I)
_YES = re.compile(r"\b(?:yes|yeah|please do|sure|ok(?:ay)?|s[ií])\b", re.I)
_NO = re.compile(r"\b(?:no|not|cancel)\b", re.I)
_BOT = re.compile(r"\b(?:bot|robot|assistant|machine)\b", re.I)

_NUMBERS = {
    word: str(number)
    for number, words in enumerate(
        (
            ("one", "una", "uno"),
            ("two", "dos"),
            ("three", "tres"),
            ("four", "cuatro"),
            ("five", "cinco"),
            ("six", "seis"),
            ("seven", "siete"),
            ("eight", "ocho"),
        ),
        start=1,
    )
    for word in words
}
_COUNT = r"(\d{1,2}|" + "|".join(_NUMBERS) + r")"
_FOR = re.compile(rf"\b(?:for|para|of) {_COUNT}\b(?!\s*(?:[ap]\.?m\b|:))", re.I)
_BARE = re.compile(rf"^\s*{_COUNT}\b(?!\s*(?:[ap]\.?m\b|:))", re.I)
_TIME = re.compile(
    r"\b(?:(?:tonight|today|tomorrow|(?:mon|tues|wednes|thurs|fri|satur|sun)day"
    r"|esta noche|hoy|mañana)\s*)?(?:(?:at|a las)\s*)?"
    r"(?:\d{1,2}:\d{2}(?:\s*[ap]\.?m\b)?|\d{1,2}\s*[ap]\.?m\b|noon|midday)",
    re.I,
)

_MENU_ATTACHMENTS = (
    {
        "title": "Menu",
        "preview_image_url": "https://www.example.com/menu/preview.png",
        "content_url": "https://www.example.com/menu",
        "content_type": "ATTACHMENT_CONTENT_TYPE_URL",
        "call_to_action_text": "Open the menu",
    },
    {
        "title": "Today's catch",
        "preview_image_url": "https://www.example.com/menu/catch-small.png",
        "content_url": "https://www.example.com/menu/catch.png",
        "content_type": "ATTACHMENT_CONTENT_TYPE_IMAGE",
        "call_to_action_text": "",
    },
)
_DIRECTIONS = {
    "title": "How to find us",
    "preview_image_url": "https://www.example.com/map.png",
    "content_url": "https://www.example.com/directions",
    "content_type": "ATTACHMENT_CONTENT_TYPE_URL",
    "call_to_action_text": "Open the map",
}
# A number that telephone companies keep free for use in fiction.
_CALL = {"title": "Harbour Table", "contact_number": "+12025550143"}


class BookingAgent:
    """Books a table in a few turns.

    Try "Do you have a table for two tonight?", "the menu", "can I call you?", "speak
    Spanish", "talk to a human" and "goodbye". What it remembers of a conversation is
    in the conversation's own state, so one instance serves any number of them.
    """

    name = "Harbour Table"
    avatar_url = "https://www.example.com/avatars/harbour.png"
    blocking = False

    def greeting(self, turn: Turn) -> Reply:
        """Offer what there is."""
        return Reply(
            _say(turn, "greeting"),
            suggestions=[_say(turn, name) for name in ("book", "see menu", "talk")],
        )

    def reply(self, turn: Turn) -> Iterator[Reply | Handoff | Push]:
        """Answer what was asked, or go on with the booking."""
        text = turn.text
        for language, pattern in _LANGUAGES.items():
            if pattern.search(text):
                turn.state["language"] = language
                yield Push("LANGUAGE_CHANGED", {"language_code": language})
                yield Reply(_say(turn, "language"))
                return
        if _BYE.search(text):
            yield Reply(_say(turn, "bye"), end=True)
        elif _HUMAN.search(text):
            yield Reply(_say(turn, "human"))
            yield Handoff(queue_name="Front of house", reason="user asked for a human")
        elif _MENU.search(text):
            yield Reply(_say(turn, "menu"), attachments=_MENU_ATTACHMENTS)
        elif _PHONE.search(text):
            yield Reply(_say(turn, "phone"), call_actions=[_CALL])
        elif _BOOK.search(text) or "booking" in turn.state:
            yield self._book(turn)
        else:
            yield Reply(
                _say(turn, "lost"),
                suggestions=[_say(turn, name) for name in ("book", "see menu", "talk")],
            )

    def live_reply(self, turn: Turn) -> Iterator[Reply | Leave]:
        """Be the colleague at the front of house."""
        if _BYE.search(turn.text):
            yield Reply("You are welcome. Have a good day!", end=True)
        elif _BOT.search(turn.text):
            yield Reply("Certainly, I leave you to our assistant.")
            yield Leave("user asked for the assistant")
        else:
            yield Reply("I have noted that. Is there anything else I can do for you?")

    def _book(self, turn: Turn) -> Reply:
        """Ask for what is still missing, then for a yes."""
        booking: dict[str, Any] = turn.state.setdefault("booking", {})
        asked = booking.get("asked")
        if asked == "confirm" and _YES.search(turn.text):
            del turn.state["booking"]
            return Reply(_say(turn, "booked", **booking), attachments=[_DIRECTIONS])
        if asked == "confirm" and _NO.search(turn.text):
            del turn.state["booking"]
            return Reply(_say(turn, "dropped"))
        count = _FOR.search(turn.text)
        if count is None and asked == "people":
            count = _BARE.search(turn.text)
        if count is not None:
            number = count[1].lower()
            booking["people"] = _NUMBERS.get(number, number)
        if time := _TIME.search(turn.text):
            booking["time"] = time[0].strip()
        if "people" not in booking:
            booking["asked"] = "people"
            return Reply(_say(turn, "people"), suggestions=["2", "4", "6"])
        if "time" not in booking:
            booking["asked"] = "time"
            offers = [_say(turn, "tonight"), _say(turn, "tomorrow")]
            return Reply(_say(turn, "time", **booking), suggestions=offers)
        booking["asked"] = "confirm"
        return Reply(
            _say(turn, "confirm", **booking),
            suggestions=[_say(turn, "yes"), _say(turn, "no")],
        )


def _say(turn: Turn, name: str, **values: str) -> str:
    """Return a phrase in the conversation's language."""
    phrases = _PHRASES[turn.state.get("language", "en-US")]
    return phrases[name].format(**values)
