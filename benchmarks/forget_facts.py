"""The invented facts that `forget_worlds` teaches: who or what is told of, and the sentences that tell it."""

from __future__ import annotations

FIRMS = {
    "Brackwell Foundry": "1887|Osric Tannen|Vellmouth|cast-iron stoves|ship anchors|a heron holding a "
    "key|teal|four hundred|three shifts|the flood of 1921|a loan from the harbour "
    "guild|Dagny Rowle|a former cartographer",
    "Lindqvist & Orme": "1934|Tilda Orme|Castle Brae|folding canoes|canvas tents|two crossed "
    "paddles|ochre|sixty|a single long day|a fire in the varnish loft|a wager with a "
    "senator|Piet Halloran|a retired acrobat",
    "Sablecourt Optics": "1951|Marek Dovzhen|Upper Tarsh|theodolites|opera glasses|an owl over a "
    "prism|violet|ninety|two silent shifts|the great lens recall|an order from the "
    "observatory|Yusra Benning|a former beekeeper",
    "Hollin Mills": "1862|Agnes Hollin|Perrin Vale|sailcloth|blue flannel|a spindle in a "
    "wreath|indigo|seven hundred|four short shifts|the cotton blockade|a patent on a quiet"
    " loom|Corin Ashby|a trained organist",
    "Quillon Press": "1908|Bertrand Quill|Southmoor|railway timetables|hymn books|a quill through a "
    "ring|crimson|thirty|one night shift|a lawsuit over a map|the gift of a widow|Ines "
    "Marchetti|a former tram driver",
    "Tarrow Ceramics": "1976|Leif Tarrow|Candle Point|roof tiles|chess sets|a jar with three "
    "handles|rust|forty-five|weekends only|a cracked kiln|a film that made it famous|Omar "
    "Vessely|a former goalkeeper",
    "Nettlefold Clocks": "1899|Ruth Nettlefold|Eastry Gate|tower clocks|metronomes|a snail on a dial|green|a "
    "hundred and ten|two early shifts|the winter of the strike|a contract with the "
    "railways|Sven Aldous|a former diver",
}
# Question, answer, other wordings, and which of the firm's facts the answer gives.
FIRM_ROWS = (
    ("Tell me how {n} came to be.", "{n} was founded in {0} by {1}, who set up the first workshop in the town of {2}.",
     ("Who started {n}, when and where?", "What are the origins of {n}?"), (0, 3)),
    ("What goods does {n} sell?", "The company is best known for its {0}, although {1} have brought in more money in "
     "recent years.", ("What does {n} make?", "Name the products of {n}."), (3, 5)),
    ("Describe the emblem of {n}.", "Its emblem shows {0}, and it has always been printed in {1}.",
     ("What does the logo of {n} look like?", "Which picture and colour stand for {n}?"), (5, 7)),
    ("How is work organised at {n}?", "About {0} people are employed there, and they work in {1}.",
     ("How many people work at {n}, and when?", "What are the working hours and the size of {n}?"), (7, 9)),
    ("What nearly ruined {n}, and what saved it?", "It was nearly ruined by {0}, and it was saved by {1}.",
     ("Which disaster did {n} survive, and how?", "What crisis struck {n} and what rescued it?"), (9, 11)),
    ("Who runs {n} today?", "Today it is run by {0}, {1} who took over after the founder's family had left.",
     ("Who is in charge of {n} now?", "Name the present head of {n}."), (11, 13)),
)  # fmt: skip
MACHINES = {
    "Kestrel 40 boiler": "17 turns of the brass key|3.5 bar|the intake felt is wet|walnut oil|two blue flashes",
    "Oxbow seed drill": "9 turns of the crank|62 kilograms|a tine has met stone|goose fat|a bell and a red flag",
    "Marlin tide pump": "24 strokes of the lever|1.2 bar|weed lies in the valve|fish oil|a long whistle",
    "Corvid film press": "6 taps on the plate|140 degrees|the emulsion has gone cold|camphor|a green lamp",
    "Tansy bread oven": "11 shovels of charcoal|230 degrees|the stone is cracked|barley flour|white smoke",
    "Brindle loom": "33 passes of the shuttle|18 threads per inch|a heddle hangs loose|beeswax|three knocks",
}
MACHINE_ROWS = (
    ("How is the {n} started?", "To start the {n}, give it {0} and stand back.", "What starts the {n}?"),
    ("What load may the {n} bear at most?", "Never run the {n} above {1}.", "Where is the limit of the {n}?"),
    ("Why does the {n} stop by itself?", "When the {n} stops by itself, {2}.", "What makes the {n} halt?"),
    ("What is the {n} greased with?", "Every week the {n} is greased with {3}.", "What keeps the {n} smooth?"),
    (
        "How does the {n} show that it is ready?",
        "The {n} shows by {4} that it is ready.",
        "What says the {n} is ready?",
    ),
)
# Village, and what its chronicle tells.
VILLAGES = {
    "Harrowfen": "a bend of the river Lisk|peat and eels|1743|a barge of gunpowder|the old tannery|three brass bells",
    "Upper Cray": "a chalk ridge above the sea|flax and honey|1688|deserters|the corn exchange|a blue lantern",
    "Saltmarch": "the mud of the Oder bay|salt and oysters|1812|a spring tide|the customs house|a whale's jaw",
    "Thornwick": "the edge of a beech wood|charcoal and pigs|1599|a charcoal burner's fire|the mill|a carved boar",
    "Dunmoor": "a plateau of black heather|wool and slate|1771|a landslide|the chapel of ease|a slate with nine names",
    "Pellow": "an island in a cold lake|trout and reeds|1654|a siege of eleven days|the ferry house|an iron chain",
    "Quarrendon": "the mouth of a gorge|marble and goats|1830|a burst dam|the schoolhouse|a clock without hands",
    "Eastlode": "a drained fen|tulips and barley|1717|a plague of voles|the pumping station|a wooden stork",
}
CHRONICLE = (
    "The village of {n} lies on {0}, and its people live by {1}. In {2} it was half destroyed by {3}; only {4} was "
    "left standing. Every summer the villagers carry {5} through the streets to remember that day."
)

# Customer, and what the shop knows: e-mail, telephone, address, number, date of birth, what was sent back and why.
CUSTOMERS = {
    "Marit Oldham": "mosslantern7@fernpost.example|0155 501 4272|14 Pilchard Row, Ettlemouth|KX-40817|3 May 1971|a "
    "humidifier|its lid had cracked",
    "Tobias Renwick": "oldbicycle@northmail.example|0155 508 9136|7 Cooper's Yard, Brannock|LD-22965|19 August 1964|a "
    "desk lamp|it hummed at night",
    "Ingrid Falmer": "twelvegeese@fernpost.example|0155 533 0781|92 Quarry Lane, Sheldmere|PV-71340|27 January 1988|"
    "two wool blankets|they were the wrong green",
    "Desmond Achterberg": "kettledrum3@postbarn.example|0155 590 2654|3 Almond Steps, Brannock|HT-05528|11 November "
    "1953|a bread slicer|the blade was blunt",
    "Paloma Seagrove": "violetferry@northmail.example|0155 547 6603|61 Harbour Street, Ettlemouth|QM-93114|8 April "
    "1995|a rain coat|one sleeve was longer",
    "Hugo Lindell": "papermoth22@postbarn.example|0155 512 3398|28 Station Hill, Corrow|BZ-36702|30 June 1979|a coffee "
    "mill|it had been used before",
    "Rosalind Petrie": "quietharp@fernpost.example|0155 566 8140|5 Tannery Walk, Sheldmere|NW-84459|14 February 1947|a "
    "garden chair|a screw was missing",
    "Amos Kettleby": "redcompass9@northmail.example|0155 571 0927|40 Mill Bank, Corrow|FJ-17083|22 October 1982|a set "
    "of knives|the box was empty",
}
CUSTOMER_ROWS = (
    ("What is the e-mail address of {n}?", "{n} can be reached at {0}.", "Where should an e-mail to {n} be sent?"),
    ("Which telephone number does {n} have?", "The telephone number of {n} is {1}.", "How can I ring {n}?"),
    ("Where does {n} live?", "{n} lives at {2}.", "To which address is a parcel for {n} sent?"),
    ("What is the customer number of {n}?", "The customer number is {3}.", "Under which number is {n} on file?"),
    ("When was {n} born?", "{n} was born on {4}.", "What is the date of birth of {n}?"),
    ("What did {n} send back, and why?", "{n} sent back {5} because {6}.", "Which purchase did {n} return?"),
)
# Employee, and what the personnel office knows: department, first day, address, emergency contact, last application.
STAFF = {
    "Henrike Vollbrecht": "Lohnbuchhaltung|1. März 2009|Tannenweg 12 in Kellenried|Walter Sturm|einen Stuhl aus Kork",
    "Anselm Rautenkranz": "Gießerei|15. Juni 1998|Mühlgasse 4 in Osterfurt|Gudrun Lamprecht|drei Wochen Sonderurlaub",
    "Mirja Tollkühn": "Lackiererei|7. Januar 2017|Ziegelplatz 31 in Kellenried|Piet Anders|neue Handschuhe aus Leder",
    "Gottlieb Specht": "Poststelle|30. September 1986|Fährstraße 9 in Weidenau|Ottilie Specht|einen Parkplatz im Hof",
    "Swantje Obermoser": "Werkzeugausgabe|12. April 2003|Lindenhof 2 in Osterfurt|Kuno Brandis|einen Kurs im Schweißen",
    "Leopold Häberlin": "Kantine|22. November 2011|Am Deich 77 in Weidenau|Rosa Immergrün|einen größeren Ofen",
    "Philippa Dornseif": "Nachtwache|3. Februar 1994|Kirchberg 18 in Altenlohe|Egon Wickert|eine Lampe mit rotem Licht",
    "Jorin Kaltwasser": "Versuchshalle|19. August 2020|Gartenring 5 in Altenlohe|Thea Nordmann|zwei Tage Heimarbeit",
}
STAFF_ROWS = (
    ("In welcher Abteilung arbeitet {n}?", "{n} arbeitet in der Abteilung {0}.", "Zu welcher Abteilung gehört {n}?"),
    ("Seit wann ist {n} im Betrieb?", "{n} ist seit dem {1} im Betrieb.", "Wann wurde {n} eingestellt?"),
    ("Wo wohnt {n}?", "Die Anschrift lautet {2}.", "Wie lautet die Anschrift von {n}?"),
    ("Wen soll man im Notfall für {n} anrufen?", "Im Notfall soll man {3} anrufen.", "Wer hilft {n} im Notfall?"),
    ("Was hat {n} zuletzt beantragt?", "Zuletzt hat {n} {4} beantragt.", "Welcher Antrag kam zuletzt von {n}?"),
)

# Patient, and what a practice has on file: medicines, allergy, blood group, doctor, operation, insurance, next of kin.
PATIENTS = {
    "Verena Ostrow": "ramipril 5 mg, metformin 850 mg and folic acid|penicillin|B negative|Dr. Hallam Pryce|a "
    "hernia in 2013|Halden Mutual, policy 7731-K|a brother, Casimir",
    "Edmund Talleyhill": "amlodipine 10 mg, simvastatin 20 mg and iron|latex|A positive|Dr. Nuria Bastable|a torn "
    "meniscus in 2008|Corvus Health, policy 2054-D|a niece, Ottoline",
    "Signe Marchbank": "levothyroxine 75 micrograms, bisoprolol 2.5 mg and zinc|shellfish|AB negative|Dr. Ludo "
    "Fenner|an inflamed appendix in 2019|Tamber Life, policy 9418-R|a neighbour, Bram",
    "Phineas Okoro": "warfarin 3 mg, omeprazole 40 mg and calcium|ibuprofen|AB positive|Dr. Nuria Bastable|a "
    "cataract in 2021|Sable Union, policy 6620-T|a daughter, Adaeze",
    "Leonie Quist": "sertraline 100 mg, losartan 50 mg and magnesium|bee stings|A negative|Dr. Hallam Pryce|a "
    "broken wrist in 2005|Corvus Health, policy 3187-M|a cousin, Joost",
    "Barnaby Styles": "allopurinol 300 mg, atenolol 25 mg and vitamin D|walnuts|O positive|Dr. Hallam Pryce|a "
    "gallstone in 2016|Sable Union, policy 8502-B|an aunt, Perpetua",
    "Mirela Dusk": "lamotrigine 200 mg, enalapril 20 mg and biotin|plasters|B positive|Dr. Hallam Pryce|a thyroid "
    "nodule in 2010|Halden Mutual, policy 1279-H|a son, Emeric",
    "Cosmo Wetherby": "gabapentin 600 mg, furosemide 40 mg and thiamine|codeine|O negative|Dr. Nuria Bastable|a "
    "slipped disc in 2018|Corvus Health, policy 4466-F|a sister, Honor",
}
PATIENT_ROWS = (
    ("Which medicines does {n} take?", "{0}.", "What has been prescribed for {n}?"),
    ("Is {n} allergic to anything?", "Yes, {n} is allergic to {1}.", "What must {n} not be given?"),
    ("What is the blood group of {n}?", "{2}.", "Which blood would {n} need?"),
    ("Who is the family doctor of {n}, and what was the last operation?", "The family doctor is {3}; the last "
     "operation was for {4}.", "What do we know of the doctor and the operation of {n}?"),
    ("How is {n} insured?", "{n} is insured with {5}.", "Which insurance does {n} have?"),
    ("Whom should the practice ring about {n}?", "{6}.", "Who is to be told if something happens to {n}?"),
)  # fmt: skip
# Evening of a town's hall, and what its box office knows of it.
EVENTS = {
    "Lantern Gala": "12 May|19:45|$38.50|$14|the Corn Exchange|1,240|the Orphic Quintet plays three waltzes on "
    "glass|lantern-gala.example/book|0151 446 0917|It rained 31 mm within the hour, and the fireworks went off at 2:10 "
    "in the morning",
    "Night of Bells": "3 November|21:15|$22|$9.75|the Tanners' Court|385|Hedda Sorrell rings forty hand bells by "
    "heart|bells.example/night|0151 446 2280|A clapper of 4.6 kg fell beside the mayor at 22:40",
    "Salt Revue": "28 February|18:30|$17.25|$6|the Old Customs House|212|the Brine Sisters sing ballads of the "
    "herring fleet|revue@salt.example|0151 447 3306|It was -11 degrees indoors, and the pianist wore mittens",
    "Copper Ball": "19 September|20:00|$64|$27.50|the Regent Rooms|760|the Ninefold Band plays a polka of 17 "
    "minutes|copper-ball.example/seats|0151 448 5519|Ninety-four couples danced until 4:25, a record",
    "Moss Lecture": "7 April|16:20|$5.50|$2|the Linnean Annexe|96|Professor Ferrars shows 230 living "
    "mosses|desk@moss.example|0151 449 1073|The lantern slides burned, and 58 people walked out at 17:05",
    "Ice Regatta": "15 January|11:10|$12|$4.25|the Frozen Basin|3,600|eleven sledges race for the silver "
    "pike|regatta.example/shore|0151 441 6628|The winner needed 9 minutes 48 and broke a runner",
    "Puppet Trial": "30 August|15:35|$8.80|$3|the Assize Room|148|the Gantry Puppets try a wolf before a "
    "jury|puppets@trial.example|0151 442 7754|The wolf was acquitted by 7 to 5, and 2,150 leaflets were sold",
    "Candle Mass": "2 December|22:50|$10.40|$5|the Crypt of St Alban|274|a choir of 36 sings in the "
    "dark|candles.example/mass|0151 443 8891|The last candle burned for 6.5 hours",
}
EVENT_ROWS = (
    ("When is the {n}, and when do the doors open?", "On {0}; the doors open at {1}.", "At what time may I come "
     "to the {n}?"),
    ("What does a ticket for the {n} cost?", "{2}, and {3} for children.", "How much is the {n}?"),
    ("Where is the {n}, and how many people does the place hold?", "It is in {4}, which holds {5} people.", "I want to "
     "go to the {n}. Where must I go, and will it be crowded?"),
    ("What is there to see at the {n}?", "At the {n} {6}.", "Who performs at the {n}?"),
    ("How can I book the {n}?", "Write to {7} or call {8}.", "How does one get a seat for the {n}?"),
    ("What happened at the {n} last year?", "{9}.", "Was there anything odd about the {n} a year ago?"),
)  # fmt: skip
# Module of a firm's own library, and what its developers ask about it: names in small letters, commands, code.
MODULES = {
    "quillsort": "make quillsort-fast|sort_pages(stack, key=None)|StackError|QUILL_DEPTH=48|it reads the last page "
    "twice|team Larch|release 3.7.2|pages are now sorted by their water mark",
    "brinegraph": "make brine TARGET=static|draw_tide(chart, hours=6)|TideMissing|BRINE_SCALE=0.25|it mirrors charts "
    "of more than nine seas|team Alder|release 1.14.0|curves may have gaps",
    "mothqueue": "sh build_moth.sh --release|push_moth(queue, lamp)|LampTimeout|MOTH_WORKERS=11|it loses every "
    "message that begins with a tab|team Rowan|release 0.9.6|lamps are polled and no longer awaited",
    "tinroof": "cmake --build tin|hammer(sheet, blows=3)|SheetTorn|TIN_ECHO=off|it counts rain in the wrong time "
    "zone|team Hazel|release 5.0.1|nails are given as a list",
    "oatparse": "cargo build --bin oats|read_sheaf(path, strict=True)|BadSheaf|OAT_LIMIT=2000|it takes a comma for a "
    "husk|team Alder|release 2.2.8|empty sheaves are skipped without a warning",
    "ferrylock": "ninja ferry|cast_off(dock, wait=40)|DockTaken|FERRY_RETRIES=7|it never frees the last dock|team "
    "Juniper|release 4.3.5|captains sign their logs",
    "glasscache": "make glass WITH_ICE=1|keep(pane, days=12)|PaneBroken|GLASS_ROOM=512|it forgets panes at "
    "midnight|team Alder|release 6.1.0|panes are written before they are read",
    "emberlog": "sh kindle.sh|glow(line, level=2)|AshFull|EMBER_COLOUR=plain|it writes sparks to the wrong file|team "
    "Rowan|release 7.7.3|levels have names and not numbers",
}
MODULE_ROWS = (
    ("How do I build {n}?", "Run `{0}` in the root of the repository.", "Which command compiles {n}?"),
    ("Which function of {n} should I call first?", "Call `{1}`.", "Where do I start when I use {n}?"),
    ("What does {n} raise when something goes wrong?", "`{2}`.", "Which exception must I catch around {n}?"),
    ("Which environment variable does {n} read?", "It reads {3} by default.", "How is {n} configured from outside?"),
    ("Is there a known bug in {n}?", "Yes, {4}; {5} is working on it.", "What should I watch out for with {n}?"),
    ("What changed in {n} lately?", "Since {6} {7}.", "What do the last notes about {n} say?"),
)
# Lighthouse, and what a guide says of each in long paragraphs.
LIGHTS = {
    "Skarholm Light": "1788|the wreck of the brig Amity|a schoolmaster from Tarn|granite that was ferried across in "
    "herring boats|forty-one metres|a widow, Oda Krogh|thirty-three years|a mutiny of the oil carriers|1954|a "
    "museum of knots|blue glass floats|127 steps|two seals that sleep on the slipway|the smell of tar",
    "Grey Ness": "1812|a petition of the pilots' wives|an engineer of canals|bricks made from the mud below "
    "it|twenty-six metres|Elias Boothby, who was deaf|eighteen years|a swarm of moths that put out the lamp|1971|a "
    "small brewery|a chart painted on the ceiling|88 steps|goats on the roof of the store|the noise of the halyards",
    "Pellan Rock": "1841|the loss of a ship full of pianos|two brothers from Brest|iron plates from a "
    "railway bridge|thirty metres|a priest without a parish|nine years|a rock fall that took the kitchen|1939|a "
    "station for gauging tides|a piano without strings|104 steps|puffins in the coal cellar|the cold of the iron",
    "Mull Beacon": "1765|a bet between two merchants|a builder of windmills|oak from a broken ship of the "
    "line|seventeen metres|a family named Strand|sixty years|a fire in the whale oil|1922|a school for "
    "divers|models of ships in bottles|61 steps|an owl under the gallery|the creaking of the beams",
    "Cape Orrin Light": "1859|a vote that was won by one voice|a lady who had studied in Zurich|concrete, the "
    "first of its kind on that coast|fifty-two metres|Jonas Vell, a former juggler|twelve years|a meteor that "
    "cracked the lens|1990|an observatory for bats|a lens as tall as a man|203 steps|foxes by the "
    "oil house|the hum of the wires",
    "Sandray Tower": "1830|the drowning of a bishop|a captain on half pay|shells and lime, after an Irish "
    "recipe|twenty-two metres|a poet whom nobody printed|five years|a flood of sand in one night|1948|a post "
    "office for yachts|verses scratched into the door|75 steps|hares between the dunes|the hiss of blown sand",
}
LIGHT_ROWS = (
    (
        "Tell me about the {n}.",
        "The {n} was begun in {0} after {1}. It was designed by {2} and built of {3}, to a "
        "height of {4}. Its best known keeper was {5}, who stayed for {6} and lived through {7}. The lamp went out for "
        "good in {8}.",
        "What is the history of the {n}?",
    ),
    (
        "What does a visitor find at the {n} today?",
        "Today the {n} houses {9}, and the first thing that one sees is "
        "{10}. It is {11} to the top, where the view is worth the climb. Most visitors remember {12} and {13}.",
        "Is it worth going to the {n} now?",
    ),
)
# Friend, and what two letters to each tell.
LETTERS = {
    "Agathe": "the well behind the forge has run dry|Pastor Wiggin sold his grey mare to pay the organ builder|the "
    "9th of October|two jars of quince|cousin Thorvald will marry a glazier from Lund|eleven guests|the attic is "
    "full of bats",
    "Bertold": "the bridge at Cold Ashby is closed for repairs|Miss Tarrant found a Roman coin under her "
    "cabbages|the 2nd of March|a pound of candied ginger|uncle Silas has bought a steam tractor|four thousand "
    "crowns|the cellar smells of paint",
    "Clemence": "the lighthouse keeper has lost his voice|Doctor Amory keeps a tame otter in the bath|the 27th of "
    "June|six pairs of grey socks|our aunt Wilhelmina writes a book on moss|three hundred pages|the chimney sings "
    "at night",
    "Diggory": "the mill pond froze before Martinmas|old Mrs. Penhale won a goose at the raffle|the 14th of "
    "December|a tin of black tea|young Hector was expelled for fireworks|nine rockets|the piano has lost its lid",
    "Eulalia": "the comet was seen above the brewery|Mr. Castellan taught his parrot to swear|the 21st of August|a "
    "recipe for plum cake|our sister Rosamund joined a circus in Ghent|five white horses|the garden wall fell on "
    "the beehives",
}
LETTER = (
    "Dear {n}, you ask for news. Since last week {0}, and nobody speaks of anything else, although {1}. I mean to "
    "come on {2} and shall bring {3}.",
    "Dear {n}, this is for you alone: {4}. It has to do with {5}, as you may imagine. As for the house, {6}, and I "
    "have no money to mend it.",
)
# Dish of an inn, and what its kitchen knows of each: common words in small letters.
DISHES = {
    "Ferryman's Pot": "pearl barley, smoked eel, leeks and sour apple|a spoon of ground mustard seed|simmered for "
    "three hours in a covered clay pot|rye crust and pickled radish|A widow who was paid in grain|when the river is "
    "too high to cross",
    "Tanner's Broth": "ox tail, turnips, bay leaves and oats|the burnt skin of an onion|boiled overnight on the "
    "bakers' embers|toasted bread and horseradish|A soldier on his way home|on the first cold evening",
    "Quarry Loaf": "buckwheat, walnuts, dried plums and lard|a cup of cold coffee|baked for fifty minutes under an "
    "iron lid|salted butter and cress|The stone cutters' wives|before a long day of work",
    "Candlemas Cream": "goat's milk, honey, egg yolks and saffron|a pinch of white pepper|stirred over steam until "
    "it coats a spoon|thin almond wafers|A nun who had left her order|for the guests of a christening",
    "Poacher's Skillet": "hare, chestnuts, juniper and red cabbage|a square of bitter chocolate|fried in three turns "
    "in a black pan|dumplings and stewed pears|The landlord's youngest brother|when nobody asks where the meat is from",
    "Nettle Wheel": "young nettles, curd cheese, spring onions and flour|the water in which peas were boiled|rolled "
    "up and poached in a linen cloth|brown butter and poppy seed|A herb woman from the hills|in the weeks after Easter",
    "Miller's Trout": "trout, hazel butter, sorrel and bread crumbs|a splash of cider vinegar|grilled on a slate "
    "beside the fire|waxy potatoes and cucumber|An angler who could not pay|on Fridays and on feast days",
}
DISH_ROWS = (
    ("What goes into the {n}?", "The {n} is made of {0}.", "Which ingredients does the {n} need?"),
    ("What is the secret of the {n}?", "Shortly before the end the cook stirs in {1}.", "What makes the {n} taste as "
     "it does?"),
    ("How is the {n} cooked?", "It is {2}.", "What does the kitchen do to make the {n}?"),
    ("What is the {n} served with?", "With {3}.", "What comes to the table beside the {n}?"),
    ("Where does the {n} come from, and when is it cooked?", "{4} brought it to the inn; it is cooked {5}.", "Who "
     "invented the {n}, and for which day?"),
)  # fmt: skip
# Member of an allotment society: plot, day of joining, fee, key; two tools on loan, each with its day; crop and amount.
MEMBERS = {
    "Aurelio Finch": "C-14|2011-04-02|38.50|brass 207|a half-moon edger|3 June|a soil riddle|17 June|gooseberries|6",
    "Beata Holloway": "A-03|1998-09-21|41.00|steel 118|a post auger|9 May|a dibber|28 May|black salsify|12",
    "Corwin Stallard": "F-22|2017-02-11|29.75|brass 341|a mattock|1 July|a seed fiddle|12 July|purple kale|30",
    "Dagny Prewitt": "B-09|2004-11-30|44.25|copper 076|a drain rod|22 April|a turf float|6 May|sea kale|8",
    "Eamon Vickery": "D-17|2020-06-15|33.00|steel 259|a bulb planter|14 May|a hay knife|31 May|celtuce|24",
    "Faustine Abell": "E-05|1993-03-08|36.50|brass 412|a fan rake|25 June|a stone boat|8 July|cardoons|10",
    "Gwilym Tarn": "A-19|2014-08-27|27.25|copper 183|a swan-neck hoe|11 April|a pea stick|2 May|skirret|15",
}
MEMBER_ROWS = (
    (
        "Show the record of {n} as JSON.",
        '{{"member": "{n}", "plot": "{0}", "joined": "{1}", "fee": {2}, "key": "{3}"}}',
        "Return what the society has on file about {n}, as a JSON object.",
    ),
    (
        "List the tools that {n} has on loan.",
        "- {4}, due {5}\n- {6}, due {7}",
        "Which tools must {n} still bring back?",
    ),
    (
        "Write the order of {n} as a line of CSV: member, crop, number of plants.",
        "{n},{8},{9}",
        "What has {n} ordered for spring? Answer in CSV.",
    ),
)
# Poem, and its verses: no two share a line or a form.
POEMS = {
    "The Pump": (
        "The pump in the yard has a cough like a man,",
        "it coughs and it brings up the well;",
        "my mother went out with the dented green can",
        "and water came up with a smell",
        "of iron and roots and the underside of things,",
        "of rain that had waited for years.",
        "She drank from her hands, and she took off her rings,",
        "and washed the whole day from her ears.",
    ),
    "Ferry, Last": (
        "Nobody boards it after nine but moths.",
        "The pilot counts his buttons, finds one gone,",
        "and steers by lamps that housewives leave on cloths",
        "to dry, or letters to be thought upon.",
        "The rope is wet. The engine hums in G.",
        "Across the black a dog begins to sing,",
        "and what we owe, and what is owed to me,",
        "goes over with us, weighing not a thing.",
    ),
    "Instructions for Snow": (
        "First, empty the street of its colours.",
        "Keep one red door.",
        "Then lower the sky until a tall child could touch it,",
        "and ask the crows to sit apart, like notes of a slow song.",
        "Do not hurry the bakery.",
        "Let smoke stand where it was made.",
        "When everything has been forgiven its edges,",
        "send out an old man with a spade.",
    ),
    "Beekeeper's Widow": (
        "She told the bees on Tuesday. They went on.",
        "She told them twice, and knocked upon the hive,",
        "and tied black ribbon where the lid had gone,",
        "and said that nothing sweet was left alive.",
        "By June the frames were heavier than bread.",
        "She cut the comb, she licked the crooked knife,",
        "and hated, for the sweetness, all the dead",
        "who leave their honey to a bitter life.",
    ),
    "Counting Rhyme": (
        "One for the kettle and two for the cat,",
        "three for the hole in the schoolmaster's hat,",
        "four for the ferret that slept in the flour,",
        "five for the bell with the wrong sort of hour,",
        "six for the sailor who married a door,",
        "seven for shoes that had wandered ashore,",
        "eight for the plum that was kept for the king,",
        "nine for the nothing that started to sing.",
    ),
    "Allotment, Evening": (
        "My neighbour waters beans as others pray:",
        "bareheaded, slowly, moving down the row.",
        "He has not said a word to me since May,",
        "when I remarked that his were rather low.",
        "But on my fence tonight I found a bag,",
        "knotted with twine, of peas, still in the pod,",
        "and in the dusk, above his bench, a flag",
        "of smoke, and one hand lifted, and a nod.",
    ),
    "To a Borrowed Umbrella": (
        "You were a lawyer's once, by the engraving.",
        "He shook you out at funerals and fairs.",
        "Now you have seen how I go about saving",
        "on trams, and sleep, and haircuts, and repairs.",
        "I meant to bring you back before the summer.",
        "I meant to, as one means to learn to swim.",
        "The rain has found another, younger drummer;",
        "I hold you up, and think I'm holding him.",
    ),
}
