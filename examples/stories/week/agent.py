# SPDX-License-Identifier: Apache-2.0
"""Pays a refund when a person agrees. Asks, reminds after three days, and gives up seven days later."""

import json
import os
import urllib.request

from aetheris import agent, serve, tool

VERSION = 1
DAY = 24 * 3600


@tool  # once: whatever crashes, Aether never calls it a second time
def refund(order, amount):
    body = json.dumps({"order": order, "amount": amount}).encode()
    with urllib.request.urlopen(os.environ["BANK"] + "/refunds", body, timeout=10) as answer:
        return json.load(answer)["receipt"]


@tool
def mail(to, text):
    with open("mail.txt", "a", encoding="utf-8") as box:
        box.write(f"{to}: {text}\n")


@agent
def refunds(ctx, order):
    question = ctx.llm(f"say Refund {order['amount']} EUR for order {order['id']}?")
    answer = ctx.approve(question, timeout=3 * DAY)
    if answer.timed_out:
        mail("the desk", f"still open: {question}")
        answer = ctx.approve(question, timeout=7 * DAY, name="approve-after-reminder")
    if answer.timed_out:
        mail("the customer", f"order {order['id']}: nobody could decide; please write again")
        return {"refunded": False, "why": "nobody answered in ten days"}
    if not answer:
        return {"refunded": False, "why": f"refused by {answer.by}"}
    return {"refunded": True, "receipt": refund(order["id"], order["amount"]), "said_by_version": VERSION}


serve()
