# SPDX-License-Identifier: Apache-2.0
"""Settles claims; above 1000 a person has to agree."""

from aetheris import agent, serve, tool


@tool
def pay(claim, iban, amount):
    with open("payments.txt", "a", encoding="utf-8") as book:
        book.write(f"{claim} {amount}\n")
    return f"P-{claim}"


@agent
def claims(ctx, claim):
    ctx.llm(f"say The receipts of {claim['name']} add up to {claim['amount']} EUR.")
    if claim["amount"] > 1000:
        # The title of a question stands in its event, where nothing can be erased: it names no person.
        answer = ctx.approve(f"Pay claim {claim['number']}?")
        if not answer:
            return {"paid": 0, "refused_by": answer.by}
    return {"paid": claim["amount"], "receipt": pay(claim["number"], claim["iban"], claim["amount"])}


serve()
