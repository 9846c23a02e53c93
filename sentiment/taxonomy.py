"""From the words of an aspect to a stable id: `battery life` -> `product.battery`. Hand-written and versioned.

An id names what people mean across products; what is not listed is `other`. Longest match wins, so `customer support`
is found before `support`, and a head noun decides: `screen of the laptop` is not looked into, `laptop screen` is `screen`.
"""

from __future__ import annotations

import hashlib
import re

__all__ = ["OTHER", "TAXONOMY", "VERSION", "aspect_id"]

OTHER = "other"

# One line `id: words, ...` each; a long list goes on in an indented line.
_LISTS = """
# what a product has
product.battery: battery, battery life, battery pack, charge, charging, charger, power adapter, power supply
product.screen: screen, display, touchscreen, picture, picture quality, resolution, brightness
product.camera: camera, webcam, lens, lenses, photo, zoom, video quality, image quality
product.sound: sound, sound quality, audio, audio quality, speaker, bass, volume, microphone, mic, noise cancelling,
    noise cancellation, speech quality, sound bar
product.noise: noise, fan noise, wind noise
product.input: keyboard, key, trackpad, touchpad, touch pad, mouse, button, control, touch control, fingerprint
    sensor, remote, space bar
product.performance: performance, speed, processor, memory, storage, graphics, graphics card, hard drive, startup,
    loading time
product.build: build, build quality, hinge, case, cover, material, finish, quality, durability, handle, lid, strap,
    headband, stitching, fabric, zip, zipper
product.design: design, look, colour, color, style, weight, size, shape
product.comfort: comfort, fit, ear cup, ear pad, ear cushion, padding, cushion
product.connectivity: bluetooth, pairing, port, usb, cable, cord, hdmi, connectivity
product.motor: motor, engine, suction, blade, compressor, fan, filter, brush
product.heating: temperature, temperature control, heating element
product.manual: manual, instruction, assembly instruction, assembly, setup, set up, installation
product.smell: smell, scent, odor, odour
# software and sites
software.app: app, mobile app, companion app, application, software
software.interface: interface, user interface, menus, menu bar, main menu, start menu, settings menu, dropdown menu,
    drop down menu, context menu, dashboard, dark mode, layout, task bar
software.updates: update, software update, firmware, upgrade
software.site: website, site, web site, checkout, search, search bar, online booking, login, log in
software.system: operating system, os, Windows, syncing, sync, notification
software.ads: ad, advert, commercial
# people and service
service.support: support, customer support, customer service, tech support, technical support, help desk, call
    centre, call center, chat support, chat bot, chatbot, support team
service.staff: staff, agent, representative, rep, employee, manager, supervisor, waiter, waitress, server,
    bartender, host, hostess, crew, cabin crew, flight attendant, nurse, doctor, pharmacist, trainer, instructor,
    receptionist, concierge, seller, salesperson, lady, guy
service.technician: technician, engineer, installer, mechanic, repair, repairman
service.general: service, service quality, hospitality
service.wait: wait, waiting time, wait time, hold time, hold music, queue
service.reception: reception, front desk, check in, check out, check-in, check-out, boarding
service.booking: booking, reservation, appointment, cancellation
# money and terms
money.price: price, cost, pricing, value, price increase, premium, tariff, bill, tab
money.fee: fee, annual fee, late fee, cancellation fee, overdraft fee, activation fee, monthly fee, delivery fee,
    charge card fee, surcharge, foreign transaction fee, charges, standing charge, hidden charge, extra charge, service
    charge, delivery charge
money.bill: monthly bill, billing, invoice, statement, final bill
money.refund: refund, return, return policy, exchange, payout, replacement
money.rewards: cash back, cashback, reward, point, miles, discount, points programme, voucher, coupon
money.credit: interest, interest rate, credit limit, mortgage, loan, exchange rate, balance
terms.contract: contract, subscription, plan, policy, membership, family plan, free plan
terms.warranty: warranty, guarantee, coverage, claim, dental cover, health cover, insurance cover
# getting it
delivery.delivery: delivery, shipping, express shipping, shipment, parcel, package, tracking, order
delivery.driver: driver, courier, delivery guy, delivery driver, delivery man
delivery.packaging: packaging, box, wrapping, gift wrapping
# connections
network.connection: connection, internet, internet connection, wifi, wi fi, wi-fi, broadband, line, latency, outage
network.speed: download speed, upload speed, download, upload, internet speed
network.signal: signal, reception signal, call quality, network coverage, calls
network.router: router, modem, cable box, streaming box, set top box
# places and travel
place.room: room, room key, key card, keycard, bed, mattress, bathroom, shower, towel, balcony, pillow
place.seating: table, chair, booth, stool, high chair, seating
place.location: location, view, neighbourhood, neighborhood, area
place.ambience: ambience, ambiance, atmosphere, decor, music, noise level, lighting
place.facilities: pool, gym, parking, lift, elevator, air conditioning, heating, sauna, lounge
place.cleanliness: cleanliness, cleaning, housekeeping
travel.flight: flight, landing, take off, takeoff, ride, train, bus, buses
travel.seat: seat, legroom, leg room, tray table
travel.baggage: baggage, luggage, bag, suitcase, carry on, carry on bag
travel.entertainment: entertainment, entertainment system, film selection, movie selection
# food
food.food: food, food quality, meal, dish, menu item, pizza, burger, salad, soup, sandwich, pasta, noodle, steak, chicken, fish,
    sea bass, sushi, rice, fries, appetizer, entree, dinner, lunch, taste, flavor, flavour, portion, dessert, cake
food.breakfast: breakfast, breakfast buffet, brunch
food.drinks: drink, wine, beer, coffee, cocktail, bar, tea
food.menu: menu, wine list, selection, catalogue, catalog
"""


#: Plurals that mean something else than their singular: `Windows` is software where it is written so, and a `window` is
#: not; a device has `menus`, a restaurant a `menu`.
_NO_PLURALS = frozenset({"Windows", "charges", "calls", "menus"})


def _base(word: str) -> str:
    """A rough singular: enough to let `speakers` meet `speaker`."""
    if word.isupper() and word.capitalize() in _NO_PLURALS:
        return word.capitalize()
    if word not in _NO_PLURALS:
        word = word.casefold()
    if word in _NO_PLURALS:
        return word
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ches", "shes", "sses", "xes")):
        return word[:-2]
    return word[:-1] if len(word) > 2 and word.endswith("s") and not word.endswith("ss") else word


def _key(text: str) -> tuple[str, ...]:
    owner = re.sub(r"['’]s\b", "", text, flags=re.IGNORECASE)
    return tuple(_base(w) for w in re.findall(r"[^\W_]+", owner))


def _read(lists: str) -> dict[str, tuple[str, ...]]:
    entries = [line for line in re.sub(r"\n +", " ", lists).splitlines() if line and not line.startswith("#")]
    pairs = (entry.split(": ", 1) for entry in entries)
    return {name: tuple(words.split(", ")) for name, words in pairs}


TAXONOMY: dict[str, tuple[str, ...]] = _read(_LISTS)

_INDEX: dict[tuple[str, ...], str] = {}
for _id, _words in TAXONOMY.items():
    for _text in _words:
        _INDEX.setdefault(_key(_text), _id)

#: Of what is listed; model_repo/aspects/config.pbtxt repeats it, so that a changed list is another run.
VERSION = hashlib.sha256(repr(sorted(_INDEX.items())).encode()).hexdigest()[:12]


def aspect_id(text: str) -> str:
    """The id of an aspect's text: the longest listed ending of it, else `other`."""
    words = _key(text)
    for start in range(len(words)):
        if words[start:] in _INDEX:
            return _INDEX[words[start:]]
    return OTHER
