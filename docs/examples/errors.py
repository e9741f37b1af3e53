from polysync import (
    AuthenticationError,
    Client,
    DeliveryError,
    PolysyncError,
    ReplyTimeoutError,
)


def answer(question: str) -> str:
    try:
        with Client() as client:
            return client.ask(question, timeout=20).text
    except AuthenticationError as error:
        # Wrong token or host. The id helps the vendor's support to find the request.
        return f"Please check the settings ({error.correlation_id})."
    except ReplyTimeoutError:
        return "The agent takes longer than usual. Please try again."
    except DeliveryError as error:
        if error.uncertain:
            return "Your message may have arrived: please look before you send again."
        return "Your message has not arrived. Please send it again."
    except PolysyncError as error:
        return "Please try again later." if error.retryable else "Something is wrong."


print(answer("Are you open on Sundays?"))
