"""A bot with the official Python client: `python bot.py CHANNEL FIRST COUNT`."""

import sys
import time

channel, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


def say(n):
    text = "%s-python-%d" % (channel, n)
    if channel == "universal":
        bot.log_message({"timestamp": int(time.time() * 1000), "content": {"texts": [{"text": text}]}})
    else:
        bot.publish({"event": "user", "timestamp": time.time(), "text": text, "sender_id": "sdk"})


if channel == "universal":
    from botanalytics.universal import Universal as Client
else:
    from botanalytics.rasa import Rasa as Client

bot = Client(debug=False, is_async=False)
for number in range(first, first + count):
    say(number)
    print(number, flush=True)
