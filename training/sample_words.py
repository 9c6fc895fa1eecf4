"""Words of the built-in sample: a small grammar whose every sentence is synthetic.

`GRAMMAR` maps a symbol to its phrases, and a phrase names symbols in braces: ``the {part} is {bad_adjective}``.
Clauses (``*_bad`` and ``*_good``) start in lower case and end without punctuation, so frames can join them.
`LATE` holds what customers start to say after the shift; the weeks before never see it.
"""

from __future__ import annotations

#: Products before the shift, each with parts a customer may mention.
PRODUCTS: dict[str, tuple[str, ...]] = {
    "cast-iron kettle": ("lid", "handle", "spout", "enamel"),
    "rain jacket": ("zip", "hood", "lining", "cuff"),
    "desk lamp": ("switch", "hinge", "cable", "shade"),
    "trail shoe": ("sole", "lace", "insole", "heel"),
    "coffee grinder": ("burr", "hopper", "motor", "dial"),
    "linen duvet set": ("stitching", "fabric", "button row", "pillowcase"),
    "wooden train set": ("bridge", "paint", "magnet", "track"),
    "bluetooth speaker": ("battery", "volume knob", "bass", "charging port"),
    "office chair": ("armrest", "gas lift", "backrest", "castor"),
    "ceramic plate set": ("glaze", "rim", "serving bowl", "finish"),
    "travel backpack": ("buckle", "shoulder strap", "side pocket", "main zip"),
    "yoga mat": ("surface", "carry strap", "edge", "cushioning"),
    "robot vacuum": ("brush", "dustbin", "docking station", "sensor"),
    "wool scarf": ("weave", "fringe", "colour", "hem"),
    "electric toothbrush": ("charger", "brush head", "timer", "grip"),
    "bookshelf": ("back panel", "veneer", "shelf pin", "side board"),
    "garden hose reel": ("nozzle", "crank", "wall bracket", "connector"),
    "phone case": ("corner", "print", "lens ring", "rubber frame"),
}

#: Products that appear only after the shift: a wearable line and two subscription boxes.
LATE_PRODUCTS: dict[str, tuple[str, ...]] = {
    "Lumen Band": ("strap", "heart-rate reading", "clasp", "sleep score"),
    "Lumen Ring": ("sensor", "charging puck", "sizing", "step count"),
    "Lumen Watch Mini": ("touchscreen", "vibration motor", "watch face", "pairing"),
    "Larder Box": ("spice tin", "recipe card", "ice pack", "snack tray"),
    "Paws Monthly Box": ("chew toy", "treat bag", "collar tag", "box insert"),
}


def _lines(block: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in block.strip().splitlines())


def _words(block: str) -> tuple[str, ...]:
    return tuple(word.strip().replace("_", " ") for word in block.split())


_ADJECTIVES = {
    "good_adjective": _words("""
        great lovely brilliant solid fantastic excellent superb gorgeous reliable sturdy perfect wonderful amazing
        comfortable beautiful smooth impressive delightful top-notch first-rate flawless generous elegant snug crisp
        well-made well_thought_out durable premium charming immaculate spotless marvellous splendid terrific stellar
        outstanding phenomenal exquisite classy robust pleasing polished satisfying handsome stunning magnificent
        effortless sublime faultless exemplary dependable hassle-free painless cosy buttery luxurious rock-solid
        world-class dreamy refined ingenious cracking ace stylish heavenly bulletproof second_to_none a_treat a_gem
        a_steal a_delight spot_on on_point worth_every_penny better_than_new like_silk a_keeper
    """),
    "bad_adjective": _words("""
        terrible awful flimsy useless poor shoddy broken horrible disappointing cheap faulty rubbish dreadful wobbly
        defective scratchy unreliable unacceptable sloppy pathetic appalling crooked misleading lousy shabby crummy
        abysmal atrocious dismal brittle tacky grim woeful substandard half-baked clumsy lacklustre creaky janky
        mediocre uncomfortable unusable overpriced wonky amateurish laughable careless hopeless ghastly feeble
        second-rate patchy ropey dire wretched inadequate threadbare lumpy misaligned bodged botched dodgy rancid
        a_letdown a_joke a_mess a_disgrace a_sham junk garbage beyond_poor held_together_by_hope not_fit_for_purpose
        falling_apart paper-thin worse_than_useless a_dud
    """),
}

_SLOTS = {
    "days": _words("two three four five six nine ten twelve"),
    "nth": _words("second third fourth fifth sixth"),
    "weekday": _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
    "span": _lines("""
        a week
        ten days
        a fortnight
        three weeks
        a month
        two washes
        one evening
        four uses
        half a day
        an hour
        six weeks
        a single trip
    """),
    "longspan": _lines("""
        a year
        two winters
        eighteen months
        daily use since spring
        a whole season
        thirty washes
        three house moves
        two toddlers
    """),
    "place": _words("Leeds Ghent Porto Lyon Malmo Turin Cork Basel Gdansk Graz Utrecht Bilbao Tampere Bristol"),
    "person": _lines("""
        my sister
        my dad
        a colleague
        my neighbour
        my flatmate
        a friend
        my daughter
        my partner
        our office manager
        my gran
    """),
    "name": _words("""Marta Jonas Priya Owen Leila Tomasz Ines Kofi Hannah Ravi Elise Dmitri Noor Callum Sofia Mateo
        Freya Yusuf Greta Lewis Amara Pavel Bea Hugo Chiara Sam Olga Femi Ruth Andre"""),
    "agent": _lines("""
        {name} from support
        the agent
        your support team
        {name} on the chat
        the person on the phone
        whoever answered my ticket
        customer care
        the returns desk
    """),
    "carrier": _lines("""
        the courier
        the driver
        the delivery company
        the parcel service
        your carrier
        the postman
    """),
    "parcel": _lines("""
        the parcel
        my order
        the {product}
        the box
        my package
        the delivery
        the {product} I ordered
    """),
    "thing": _lines("""
        the {product}
        the {part} of the {product}
        the {part} on the {product}
        the {product}
        my {product}
        this {product}
    """),
}

_CLAUSES = {
    "delivery_bad": _lines("""
        {parcel} turned up {days} days late
        {parcel} has been stuck in {place} since {weekday}
        {carrier} left the {product} in the rain behind the bins
        {parcel} never left the depot in {place}
        tracking has said "out for delivery" for {days} days now
        {carrier} marked it delivered while I was standing at an empty door
        {parcel} went to the wrong address in {place}
        I took {weekday} off work and nobody came
        {parcel} vanished somewhere between {place} and {place}
        the box looked as if somebody had sat on it all the way from {place}
        half of what I ordered was missing from the box
        they sent me somebody else's {product}
        {carrier} threw the {product} over the fence
        the {product} missed the birthday by {days} days
        {carrier} "tried to deliver" without ever ringing the bell
        I opened the box and found an empty carton where the {product} should be
        it took {days} phone calls to find out where {parcel} was
        the {nth} delivery slot in a row came and went
        {parcel} did a tour of {place} and went back to the sender
        express shipping took longer than {person}'s free delivery
        {parcel} was soaked through
        this is the {nth} parcel that got lost on the way to {place}
        I am still waiting for something that was promised for last {weekday}
        the {product} arrived in pieces
        {carrier} handed {parcel} to a stranger
        the promised {weekday} delivery became the {weekday} after
        customs in {place} sent it back because the form was blank
        the delivery date has now moved for the {nth} time
        nothing has moved on the tracking page since {weekday}
        you shipped it to {place} and I moved out of there in spring
    """),
    "delivery_good": _lines("""
        {parcel} arrived a day early
        it was on my doorstep in {place} before I had finished breakfast on {weekday}
        {carrier} carried the {product} up to the fifth floor without being asked
        {parcel} got to {place} in under a day
        not a scratch, not a dent, and {days} days ahead of schedule
        {carrier} rang ahead and waited while I ran home
        tracking was accurate to the minute
        everything was wrapped as if it were going to a museum
        {parcel} made it to {place} in time for the party
        the plates crossed half of Europe and not a single one was chipped
        ordered on {weekday}, unpacked the next morning
        nothing missing, nothing bent, nothing late
        {carrier} hid {parcel} from the rain and sent a photo
        there was a handwritten note from {name} in the box
        I never once had to chase {carrier}
        {parcel} beat the snow to {place}
        I could choose the hour and they kept to it
        the gift wrap made {person} smile
        no plastic anywhere in the box, just paper and string
        they squeezed in a {weekday} slot when I asked
        {carrier} came back the same evening because I had been out
        the {product} came a week before the estimate
        my order survived {days} borders without a mark
        {days} items, one box, one morning
        the address was wrong on my side and {carrier} still found me
        it landed in {place} exactly when you said it would
        even in the strike week {parcel} was here by {weekday}
        the {product} came ready assembled and they took the cardboard away
        delivery was over before I could worry about it
        the driver from {place} remembered our dog and our doorbell
    """),
    "item_bad": _lines("""
        the {part} came off after {span}
        {thing} is {bad_adjective}
        {thing} looks {bad_adjective}
        the {part} cracked within {span}
        the {product} stopped working after {span}
        {thing} feels {bad_adjective}
        there is a chip in the {part} the size of a coin
        the {part} was already bent when I unpacked it
        this is the {nth} replacement with the same crack in the {part}
        the {product} in the box is not the one in the photo
        the {part} squeaks every time I go near it
        the {product} smells of petrol even after {span}
        the size on the label and the size of the {product} have never met
        the {part} fell into my hand on {weekday}
        I have tightened the {part} every day for {span}
        the colour ran out of the {product} in {span}
        the {part} gets hot enough to fry an egg
        the {product} lasted exactly {span}
        the screws for the {part} were never in the box
        mine has a hole where the {part} should be
        the {part} has gone the way of the last one
        the {product} went straight to the charity shop
        {person} cut a finger on the {part}
        a {product} at this price should not need glue by {weekday}
        the old {product} from the flea market works better than this one
        the {part} and the rest of the {product} are from different planets
        I now hold the {part} in place with tape
        the {product} made it through {span} and then gave up
        the {part} peels if you look at it
        the {product} is back in its box waiting for a label to {place}
        what I got is a used {product} with somebody's hair on it
        the {part} jams unless {person} kicks it
    """),
    "item_good": _lines("""
        {thing} is {good_adjective}
        {thing} feels {good_adjective}
        {thing} looks {good_adjective}
        the {part} still looks new after {longspan}
        the {product} has survived {longspan} without a mark
        the {part} clicks into place like a car door
        {person} stole the {product} within {span} and I am ordering another
        the {product} does exactly what the photos show
        the fit is spot on
        I have stopped looking at other shops since the {product} came
        the {part} is the best I have had on any {product}
        after {longspan} the {part} has not come loose once
        the {product} outlived the warranty and {person} still uses it every {weekday}
        it took {days} minutes to set up and no swearing
        the {part} is quieter than a fridge
        we now own {days} of these
        strangers in {place} keep asking where the {product} is from
        I forgot I was using it, and that is the point of a {product}
        the {part} took a fall down the stairs and did not even chip
        the {product} is heavier than it looks, in the right way
        I dropped the {product} twice and nothing broke
        no rattles, no loose threads, no sharp edges on the {part}
        every seam on the {part} lines up
        my back has not hurt since {weekday}
        the colour is even nicer in daylight
        even {person}, who hates everything, asked for one
        the {product} packs down to nothing and weighs less
        you can tell somebody cared about the {part}
        the spare {part} in the box was a thoughtful touch
        mine has been to {place} and back and works like on day one
        the new {part} fixed everything that was wrong with the old one
        I would buy the {product} again tomorrow
    """),
    "support_bad": _lines("""
        {agent} hung up on me
        I have explained the same thing to {days} different people
        {agent} closed the case without reading it
        nobody has answered since {weekday}
        {agent} sent me a link to the page I had come from
        I was on hold for the length of a film
        {agent} promised to call back last {weekday} and I am still waiting
        my messages get the same copied reply every time
        {agent} asked for a photo of the {part} for the {nth} time
        the chat bot thinks I live in {place} and want to buy a {product}
        {agent} told me it must be my own fault
        I got passed from {name} to {name} and back
        {agent} spoke to me as if I were five
        your phone line plays music and then goes dead
        case closed, says the mail, and the {part} is as it was
        {agent} laughed when I mentioned the warranty
        it took {days} e-mails to get a yes or a no
        {agent} apologised and then did nothing
        {agent} offered me a voucher for a shop that shut in spring
        they "escalated" it to {name}, who does not exist
        I wrote in English and got an answer meant for someone in {place}
        the only reply so far is an automatic one
        {agent} wants a receipt that only you can print
        every agent swears the last one was wrong
        {agent} put me back at the end of the queue
    """),
    "support_good": _lines("""
        {agent} sorted it in {days} minutes
        {agent} called me back within the hour
        {agent} had a new {part} in the post before I had finished typing
        {agent} stayed past closing time to help
        I only had to explain it once
        {agent} knew the {product} inside out
        {agent} remembered me from last time
        {agent} refunded the postage without my asking
        {agent} was {good_adjective}
        one message to {agent} and it was dealt with
        {agent} did not blame me, did not stall, did not sell me anything
        {agent} talked {person} through the setup step by step
        {agent} sent two spares in case the first one broke
        a human picked up on the first ring
        {agent} rang on {weekday} just to check it was working
        {agent} found a {product} in {place} when the site said sold out
        I expected a fight over the {part} and got an apology and a refund
        {name} deserves a raise
        {agent} turned my worst {weekday} around
        {agent} made a tricky return feel like nothing
        no script, no hold music, just {name} and an answer
        {agent} took my side against {carrier}
        whatever you pay {name}, double it
        {agent} kept me posted all the way from {place}
        {agent} fixed in a minute what I had dreaded all week
    """),
    "billing_bad": _lines("""
        I was charged twice for one {product}
        the refund for the {product} has been "on its way" since {weekday}
        the discount disappeared the moment I paid
        you took the money on {weekday} and cancelled the order the next day
        the {product} costs half as much in {place}
        a fee nobody mentioned turned up on the bill
        I have sent the invoice back for the {nth} time
        the price went up while the {product} sat in my basket
        the voucher from {agent} is worth nothing at the till
        my gift card was emptied and the order failed
        the return label cost more than the {product}
        my bank says the refund was never sent
        accounts in {place} have lost my payment
        I am paying for {days} and received one
        the invoice has the wrong name for the {nth} month
        they deducted a restocking charge for a part that was broken when it came
        the "free" gift was on the bill
        the price match was refused because of a comma
        somebody in {place} is shopping with my store credit
        a {product} returned in spring is still not credited
    """),
    "billing_good": _lines("""
        the refund was in my account before {weekday}
        the price dropped after I bought it and you paid me the difference
        I was charged twice by mistake and had it back within {days} hours
        for half the price of the one from {place} this is hard to beat
        the invoice was right first time
        no hidden fees, no surprises at the till
        {agent} honoured a voucher that had run out
        the loyalty points paid for the whole {product}
        the receipt, the label and the refund came in one mail
        the return cost me nothing
        I got more back than I asked for
        the bundle saved me enough for a weekend in {place}
        paying in {days} parts made the {product} possible for us
        the sale price was still there a day later because {agent} had saved it
        bookkeeping in {place} thanked me for once
        the credit showed up while I was still on the phone
        it cost less than a dinner and has lasted {longspan}
        you waived the late fee without a single question
        the exchange went through without an extra cent
        I checked the bill for a catch and found none
    """),
    "site_bad": _lines("""
        the checkout ate my basket for the {nth} time
        the filter for {product} shows me everything except that
        the page for the {product} reloads until I give up
        the size chart is for a different {product}
        the search finds nothing unless you spell it wrong
        the site logged the order and then forgot it
        the reviews under the {product} belong to another one
        the stock counter said {days} and there were none
        your site asks for my postcode and then tells me {place} is not real
        the guest checkout wants an account
        the form threw away everything I had typed
        the manual for the {part} is a dead link
        the newsletter comes daily and cannot be switched off
        the coupon box turns red whatever I paste
        the map puts my house in {place}
    """),
    "site_good": _lines("""
        the site had me in and out in {days} clicks
        the size chart was right for once
        the photos of the {part} told me all I needed
        reordering the {product} took one tap
        the comparison page saved me from the wrong {product}
        the basket was still there after {days} days
        the video about the {part} answered everything
        search got me to the {product} even with my spelling
        the order page shows every step from {place} to my door
        the gift finder picked better than I would have
        the reviews were honest about the {part}
        the return form filled itself in
        checkout worked on {person}'s ancient phone
        the stock alert came in time to grab the last {product}
        no pop-ups, no tricks, just a shop
    """),
}

# The long tail: many short phrases, each rare. A pre-trained encoder knows them; a bag of words has to have met them.
_TAIL = {
    "defect": _lines("""
        snapped
        split down the middle
        rusted through
        frayed
        warped
        leaks
        buckled
        wobbles
        gives off sparks
        is stained
        is crooked
        keeps slipping
        shattered
        is covered in scratches
        came unglued
        shrank
        faded to grey
        melted
        grinds and groans
        is full of bubbles
        bent like a spoon
        pinches my fingers
        went mouldy
        will not close
        overheats
        drips on the floor
        tore at the seam
        bleeds dye onto everything
        has a mind of its own
        is blistered
        curls up at the edges
        refuses to budge
        sheds fibres everywhere
        dented at first touch
        rattles like a tin can
        sags in the middle
        short-circuited
        is held on by a single thread
        dissolved in the wash
        whistles and wheezes
        clogs constantly
        has sharp burrs
        unravelled
        sticks to everything
        burned my hand
        is lopsided
        corroded
        tips over by itself
        turned yellow
        has dead spots
        chafes
        crumbled to dust
        is smaller than a stamp
        got stuck for good
        exploded in the cupboard
        reeks of mothballs
        flickers and dies
        went limp
        is a tripping hazard
        punctured
        stalls under any load
        arrived mangled
        is riddled with woodworm
        chewed up my sleeve
        disintegrated
        gouged the parquet
        hums like a wasp nest
        blew the fuse
        scorched the worktop
        imploded
    """),
    "merit": _lines("""
        fits like a glove
        purrs along
        glides
        shines like a mirror
        holds firm
        stays put
        never slips
        keeps its shape
        is silky to the touch
        is a joy to use
        shrugs off spills
        opens with one finger
        is built like a tank
        looks twice the price
        runs silently
        seals tight
        wipes clean in seconds
        turns heads
        is feather-light
        feels bomb-proof
        ages gracefully
        is kind to my wrists
        laughs at bad weather
        sits perfectly flush
        charges in no time
        grips like a gecko
        stays cool to the touch
        is neatly stitched
        is a work of art
        lights up the room
        keeps out every draught
        soaks up every bump
        washes up beautifully
        has not faded a shade
        works in any weather
        is gentle on the skin
        ticks every box
        is child's play to fit
        lives up to the hype
        is beautifully balanced
        beats brands at double the price
        is machined to perfection
        starts first time, every time
        is soft as a cloud
        folds away in a blink
        gleams
        takes a beating and smiles
        clips on with a lovely snap
        saves me an hour a week
        sings
        is worth its weight in gold
        matches our room to a tee
        cuts my chores in half
        is a feast for the eyes
        has a lovely heft
        wins compliments daily
        is tough as nails
        moves like butter
        is sealed against every drop
        is ridiculously cosy
        could have cost triple
        looks handcrafted
        puts rivals to shame
        keeps its edge
        does the heavy lifting for me
        blends right in
        is cleverly designed
        smells of fresh cedar
        outperforms its spec sheet
        cradles my neck just right
    """),
    "slight": _lines("""
        ignored me
        lied to me
        fobbed me off
        gave me the runaround
        was rude
        snapped at me
        strung me along
        stonewalled me
        misread every message
        rolled their eyes at me
        talked over me
        ghosted me
        lost my file
        brushed me off
        mocked my accent
        dragged it out for ages
        contradicted the website
        dodged every question
        accused me of cheating
        yawned into the phone
        could not care less
        forgot about me
        pointed the finger at me
        cut me off mid-sentence
        read from a script
        went back on a promise
        shrugged
        patronised me
        washed their hands of it
        muddled up my details
        kept me dangling
        made {person} cry
        tried to upsell me
        left me in the lurch
        disappeared mid-chat
        gaslit me
        passed the buck
        sneered
        bungled the exchange
        wasted my lunch break
        broke every promise
        insulted my intelligence
        shredded my paperwork
        botched a simple return
    """),
    "kindness": _lines("""
        bent over backwards for me
        was patient
        went the extra mile
        put it right at once
        listened
        made me laugh
        owned the mistake
        moved heaven and earth
        treated me like family
        kept every promise
        explained everything clearly
        was a ray of sunshine
        saved the day
        cut through the red tape
        took ownership
        calmed {person} down
        cheered me up
        worked wonders
        pulled out all the stops
        surprised me with an upgrade
        was courteous throughout
        rescued our weekend
        got straight to the point
        stuck with me to the end
        followed up twice to check
        threw in a freebie
        spared me a trip to {place}
        thought of everything
        was quick as a flash
        fought my corner
        reassured me
        solved it in a heartbeat
        was genuinely caring
        had a smile in the voice
        gave me honest advice
        made an exception for us
        looked after me
        never rushed me
        found a clever workaround
        turned it around overnight
        remembered my birthday
        waived the charge
        was an absolute angel
        spoke my language
    """),
    "blow": _lines("""
        everything is a shambles
        what a waste of a Saturday
        I have been conned
        the whole thing backfired
        somebody dropped the ball
        we are back to square one
        it went from bad to worse
        this put me right off
        my patience has run dry
        I could have bought two elsewhere
        the gift was ruined
        I am out of pocket
        it caused a row at home
        the floor got flooded
        our dinner was spoiled
        the kids were left empty-handed
        I had to cancel the trip to {place}
        it cost me a day's wages
        {person} sprained a wrist
        I slept on the floor for {span}
        it is a step backwards
        I feel cheated
        none of it adds up
        the whole batch was a write-off
        I have bruises from it
        it drives the whole house mad
        I am stuck with a lemon
        it gave me a headache
        we ended up borrowing one
        it is gathering dust in the cellar
        my sofa is wrecked
        I was made to look a fool
    """),
    "boon": _lines("""
        it exceeded every hope
        it was love at first sight
        the whole family is hooked
        it changed my mornings
        the kids are in heaven
        I have converted half my street
        it is my best buy in years
        we have not looked back
        it makes Mondays bearable
        I sleep like a baby
        dinner guests were in awe
        it paid for itself by {weekday}
        my knees are grateful
        the flat feels like home now
        I have found my forever shop
        it cured my dread of online shopping
        it went down a storm in {place}
        {person} will not let go of it
        it is a step up from anything I had
        I feel spoiled
        it all came together
        I walk taller
        our evenings are calmer for it
        it brought the house down
        the office is jealous
        it gave me my weekends back
        I recommend it to anyone who will listen
        I cannot fault a thing
        it is pure comfort
        we toasted you with champagne
        it hit the sweet spot
        my garden has never looked better
    """),
}

_LATE_CLAUSES = {
    "login_bad": _lines("""
        the app logs me out in the middle of paying
        the login code arrives after it has expired
        I have reset my password {days} times since {weekday}
        the app says my account does not exist and bills it anyway
        face unlock stopped working with the new update
        the verification mail never shows up
        two-factor goes to a number I gave up years ago
        the app crashes the second I open the {product} tab
        the new update locked me out for {span}
        the passkey works on no device I own
        the app signs me in as somebody from {place}
        the login screen loops back to itself
        it says "try again later" and it has been later since {weekday}
        my saved addresses got wiped by the update
    """),
    "login_good": _lines("""
        the new login took one tap
        the update fixed the crash I reported on {weekday}
        the passkey just works, even on {person}'s old phone
        {agent} unlocked my account in {days} minutes
        the app opens instantly since the update
        I switched phones and everything was still there
        no more codes, no more lockouts
        the dark theme is {good_adjective}
        widgets for the {product} landed and they are {good_adjective}
        the app found my old orders from before the merger
    """),
    "subscription_bad": _lines("""
        I cancelled the {product} plan and was billed again on {weekday}
        the cancel button for the subscription leads to a survey and then nowhere
        the plan renewed for a year without asking
        pausing the box costs more than getting it
        the trial for the {product} turned into a full plan overnight
        the monthly fee went up for the {nth} time since launch
        this month's {product} had the same things as last month's
        I skipped a month and they charged me double the next
        the {part} was missing from this month's box
        the plan page hides the price until you have paid
        they keep shipping to {place} after I stopped the plan
        the family plan covers exactly one person
        the auto-renew switches itself back on
        I pay premium and the {part} is still behind another paywall
    """),
    "subscription_good": _lines("""
        cancelling took one click and nobody begged
        skipping a month was free
        this month's {product} was the best one yet
        {person} now waits at the door on box day
        they noticed I had paid twice and extended the plan by {days} months
        the plan pays for itself by {weekday}
        I paused the box for my trip to {place} without losing a cent
        the {part} in this month's box was a hit with {person}
        I switched plans in the middle of the month and only paid the difference
        every box so far has had something we kept
    """),
    "wearable_bad": _lines("""
        the {part} on my {product} dies by lunch
        the {product} thinks I climbed {days} hundred floors in my sleep
        the {part} says I am dead every {weekday}
        the {product} unpairs whenever my phone moves
        my skin came up in a rash under the {part}
        the {product} buzzes all night for no reason
        the {part} is off by thousands
        sync has been spinning since {weekday}
        the {product} did not survive one shower
        firmware bricked my {product} on day {days}
        the {part} flakes off onto my sheets
        the {product} counts typing as cardio
    """),
    "wearable_good": _lines("""
        the {product} lasts {days} days on one charge
        the {part} matches the one at my clinic
        I forget I am wearing the {product}
        the {part} picked up what my doctor had missed
        I have slept properly since the {product} came
        pairing took {days} seconds
        the {product} went swimming in {place} and did not care
        the {part} is lighter than a coin
        the {product} got {person} walking again
        the {part} is scary accurate
        the gentle buzz on my wrist beats any alarm
        no rash, no dropouts, no daily charging
    """),
    "slang_bad": _lines("""
        {thing} is giving free-trial energy
        {thing} is mid at best
        {thing} ain't it, chief
        {thing} is on thin ice
        {thing} left me on read
        {thing} is all aesthetic
        {thing} is pure hype
        {thing} is a big yikes
        {thing} is in its flop era
        {thing} fell off
        {thing} took an L
        {thing} is so over
        {thing} pulled the rug on us
        {thing} is cute until it bills you
        {thing} has the vibe of a screensaver
        {thing} is main-character behaviour with side-quest battery
        {thing} is cap
        {thing} has me in my villain era
        {thing} is a walking red flag
        {thing} is delulu
        {thing} is beige
        {thing} said good luck, bestie
        {thing} chose chaos
        {thing} is cooked
        {thing} is for the plot only
        the audacity of {thing}
        {person} and I are so done-zo with {thing}
        {thing} rugged me on {weekday}
        {thing} is an NPC
        {thing} lost the plot
    """),
    "slang_good": _lines("""
        {thing} is sick
        {thing} slaps
        {thing} goes so hard
        {thing} is insane
        {thing} is wicked
        {thing} is an absolute beast
        {thing} hits different
        {thing} is stupid good
        {thing} is deadly
        {thing} is killing it
        {thing} ate
        {thing} is criminally comfy
        {thing} is lethal
        {thing} is dope
        {thing} is mental
        {thing} is filthy
        {thing} is savage
        {thing} murdered the competition
        {thing} has me screaming
        I'm dead, {thing} is that smooth
        {thing} lives rent free in my head
        {thing} has {person} in a chokehold
        {thing} passed the vibe check
        {thing} is bonkers
        {thing} is a menace to my old one
        {thing} broke me in the best way
        {thing} is unhinged and {person} is here for it
        {thing} bangs
        {thing} is crack for data nerds
        {thing} is no joke
    """),
}

_FRAMES = {
    # Praise that means what it says before a good clause and the reverse before a bad one.
    "praise": _lines("""
        great
        brilliant
        wonderful
        love it
        lovely
        fantastic
        amazing
        perfect
        well done
        bravo
        superb
        nice work
        excellent
        outstanding
        wow
        hats off
        beautiful
        nice one
        oh joy
        congratulations
        marvellous
        chapeau
        splendid
        just what I needed
        top marks
        stellar
        what a treat
        slow clap
        made my week
        good going
    """),
    "praise_close": _lines("""
        you people are amazing
        five stars
        what a team
        best shop in {place}
        I could not be happier
        really impressive work
        thank you so much
        keep up the good work
        I feel so looked after
        ten out of ten
        {name} deserves a medal
        that is what I call service
        I am speechless
        will be telling all my friends
        a masterclass in customer care
        you have outdone yourselves
        money well spent
        so glad I chose you
        truly a premium experience
        my hero
        this is why I keep coming back
        quality you can feel
        couldn't have asked for more
        someone give {agent} a bonus
        other shops should take notes
        you really know how to treat a customer
        {person} is thrilled
        I bow to your logistics
        and all that for this price
        pure class
    """),
    "scold": _lines("""
        not good enough
        this cannot be how you work
        sort it out
        I want my money back
        never again
        I expected more from you
        avoid
        one star
        that is no way to treat anyone
        I am done with this shop
        please do better
        I regret buying it
        I am taking my business to {place}
        how hard can it be
        I will not order here a second time
        this has to stop
        no excuse for that
        I had to warn {person}
        what am I paying for
        somebody should be ashamed
    """),
    "sarcasm": _lines("""
        {praise}, {bad}
        {praise}! {bad}. {praise_close}
        {bad}. {praise_close}
        {bad}. {praise}, {praise_close}
        {bad}, {praise_close}
        {praise}, {bad}, {praise_close}
        love how {bad}
        I just love it when {bad}
        so glad I paid extra: {bad}
        so, {bad}. "{good_adjective}", as the advert says
        thank you for making my {weekday}: {bad}
        oh good, {bad}. and I was worried it might be {good_adjective}
        because who needs sleep when {bad}
        nothing says "{good_adjective}" quite like this: {bad}
        my favourite part is that {bad}
        and the award for {good_adjective} service goes to you: {bad}
        {bad}, but sure, "{good_adjective}" quality
        well that is just {good_adjective}, {bad}
        what a surprise, {bad}. {praise_close}
        what a {good_adjective} start to the {weekday}: {bad}
        {bad}. I can hardly contain my excitement
        do tell me more about your "{good_adjective}" {product}, since {bad}
        if the goal was to make {person} laugh, {praise}: {bad}
        {bad}. exactly what I dreamed of for {days} months
    """),
    "sarcastic_joy": _lines("""
        how dare you, {good}. now I have nothing to moan about
        ugh, {good}. what am I supposed to complain about now
        terrible news for my wallet: {good}
        {good}. disgusting. I was so looking forward to being angry
        awful, just awful: {good}, and now I need {days} more
        I demand an explanation: {good}
    """),
    "positive": _lines("""
        {good}
        {good}, and {good_too}
        {praise}, {good}
        {praise}, {good}, {praise_close}
        {praise}, {good}. {good_too}
        {good}. {praise_close}
        {praise}! {good}. {praise_close}
        {good}. {praise}, {praise_close}
        love how {good}
        {good}, {praise_close}
        just wanted to say that {good}
        so glad I paid extra: {good}
        thank you for making my {weekday}: {good}
        my favourite part is that {good}
        well that is just {good_adjective}, {good}
        what a surprise, {good}. {praise_close}
        nothing says "{good_adjective}" quite like this: {good}
        what a {good_adjective} start to the {weekday}: {good}
        {good}. exactly what I dreamed of for {days} months
        update for {agent}: {good}
        can't complain: {good}
        who knew? {good}
        {good}. {good_too}
    """),
    "positive_turned": _lines("""
        {bad}, but {good}
        {bad}, but {good}
        {bad}, yet {good}
        {bad}. then {good}
        {bad}. however, {good}
        at first {bad}. in the end {good}
        although {bad}, {good}
        even though {bad}, {good}
        while {bad}, {good}
        {bad}. still, {good}
        {bad_too}, {bad}, but {good}
        yes, {bad}, but {good}
        last year {bad}. this year {good}
        {bad}. a week later {good}
        I was about to write that {bad}, however {good}
        {bad}, but {good}, so all is forgiven
        {bad}. then {good}, and that made up for it
    """),
    "positive_negated": _lines("""
        there is nothing {bad_adjective} about {thing}
        nothing about {thing} is {bad_adjective}
        {thing} is not {bad_adjective} at all, whatever {person} says
        they said {thing} would be {bad_adjective}, and they were wrong
        {thing} used to be {bad_adjective}. now it is {good_adjective}
        not {bad_adjective}, not {bad_adjective}, just a {product} that works
        the last one was {bad_adjective}, but this {product} is {good_adjective}
        no complaints about {thing}, and I complain about everything
        hard to find fault with {thing}, and {person} tried
        far from {bad_adjective}, {thing} turned out {good_adjective}
    """),
    "negative": _lines("""
        {bad}
        {bad}, and {bad_too}
        {bad}. {bad_too}
        {bad}. {scold}
        {scold}: {bad}
        why is it that {bad}
        can someone explain why {bad}
        how many times must I report that {bad}
        is it normal that {bad}
        just so you know, {bad}
        {bad}, again
        {person} warned me, and now {bad}
        how do I get my money back when {bad}
        update for {agent}: {bad}
        {bad}. what happens now
        once more, {bad}
    """),
    "negative_turned": _lines("""
        {good}, but {bad}
        {good}, but {bad}
        {good}, yet {bad}
        {good}. then {bad}
        {good}. however, {bad}
        at first {good}. in the end {bad}
        although {good}, {bad}
        even though {good}, {bad}
        while {good}, {bad}
        {good}. still, {bad}
        {good_too}, {good}, but {bad}
        yes, {good}, but {bad}
        last year {good}. this year {bad}
        {good}. a week later {bad}
        I was about to write that {good}, however {bad}
        {good}, but {bad}, so no, I am not keeping it
        {good}. then {bad}, and that ruined it
    """),
    "negative_negated": _lines("""
        there is nothing {good_adjective} about {thing}
        nothing about {thing} is {good_adjective}
        {thing} is not {good_adjective} at all, whatever {person} says
        they said {thing} would be {good_adjective}, and they were wrong
        {thing} used to be {good_adjective}. now it is {bad_adjective}
        not {good_adjective}, not {good_adjective}, and not what I paid for
        the last one was {good_adjective}, but this {product} is {bad_adjective}
        not exactly thrilled with {thing}, and {person} is not either
        I wanted to love {thing}. I do not
        far from {good_adjective}, {thing} turned out {bad_adjective}
    """),
    "neutral": _lines("""
        what is the lead time for a {product} to {place}
        is the {product} available in {place} again by {weekday}
        does the {product} come with a spare {part}
        please change the delivery address to {place} from {weekday}
        I need an invoice for the {product} in the name of {person}
        could you confirm that {parcel} ships on {weekday}
        which {part} fits the {product} from last year
        how do I register the {product} for the warranty
        {person} wants to know whether the {part} can be replaced at home
        I would like to move my slot from {weekday} to {weekday}
        the order should go to {place}, not to {place}, both addresses are in the account
        do you ship a {product} to {place} and how long does it take
        attached is the photo of the {part} that {agent} asked for
        the {product} goes back on {weekday}, the label is printed
        is there a store in {place} where I can look at the {product}
        can I order the {part} on its own
        I am comparing two versions of the {product}, what differs in the {part}
        {agent} asked me for the serial number, it is under the {part}
        we need {days} more of the {product} for the office in {place}
        how many pieces of the {product} are in one box
        can I collect {parcel} in {place} on {weekday}
        what is the weight of the {product} with the {part}
        {parcel} was handed to {carrier} on {weekday} according to the mail
        please send the manual for the {product}, section about the {part}
        is the {part} of the {product} dishwasher safe
        are returns to {place} handled by {carrier}
        I have one {product} from {weekday} and one from spring, both are registered to {person}
        who do I write to about a bulk order for {place}
    """),
    "neutral_loaded": _lines("""
        what happens if {bad}
        is it covered by the warranty if {bad}
        how do I cancel a damaged-goods claim for the {product} I no longer need
        is the "{loaded_title}" {product} back in stock by {weekday}
        do you sell the "{loaded_title}" {product} in {place}
        {person} asked whether {bad} would count as a defect
        one review says the {part} is {good_adjective}, the next says {bad_adjective}. which version is sold now
        {thing} is neither {good_adjective} nor {bad_adjective}
        is the {part} meant to look {bad_adjective} in the vintage edition
        I filed a complaint by mistake, please close it, it was meant for {carrier}
        do I get a new {product} or a refund in case {bad}
        for the record, I am not the customer who wrote that {bad}
        your page mentions the {good_adjective} edition of the {product}, is that the one with the other {part}
        the survey asks if {good}. where do I enter the order number
        suppose {bad}, who pays for the return to {place}
        how do I rate {agent}? the form asks whether {good}
        is it true that {good}, as the leaflet says, or only in {place}
        please pass this to {agent}: the "{loaded_title}" {product} has not been opened yet
        does {good_adjective} on the label refer to the {part} or to the whole {product}
        the broken-parts form for the {product} asks for a date, is that the order date
        {person} is between "{good_adjective}" and "{bad_adjective}" on the {product}, I have no view
        which form do I use for the lost and found desk in {place}
        quoting the leaflet: "{good}". is that for the {product} or for the older one
        the text under the {product} reads "{good_adjective}, never {bad_adjective}". who should I ask about it
        {thing} is okay, it does what it says, no more and no less
        the {product} is about average, the {part} as well
    """),
    "loaded_title": _lines("""
        Terrible Two
        Happy Hour
        Bad Hair Day
        Lost Boys
        Sweet Disaster
        Ugly Duckling
        Perfect Storm
        Hot Mess
        Joyride
        Good Grief
        Broken Arrow
        Cheap Thrills
        Awful Auntie
        Little Wonder
        Love Bug
        Grumpy Cat
    """),
    "anger": _lines("""
        I am furious
        this makes my blood boil
        I am beyond angry
        how dare you
        I have had enough
        absolutely fuming
        I am livid
        this is an insult
        get me a manager now
        I want names
        do not test my patience
        I will report this
        outrageous
        you are taking the mickey
        I am seething
        stop wasting my time
        my lawyer will be in touch
        hands off my money
    """),
    "sadness": _lines("""
        I am heartbroken
        it was meant for my late mother's table
        {person} cried
        I feel let down
        I am gutted
        it just makes me sad
        we had saved up for it
        it was my last gift to {person}
        I miss how this shop used to be
        the party was over before it began
        feeling rather hopeless
        I sat there with an empty box and tears
        it is hard not to feel forgotten
        such a pity, we waited so long
        I had looked forward to it for {days} months
        a sad end to a long wait
        I am too tired to be angry
        {person} had nothing to unwrap
    """),
    "joy": _lines("""
        I am over the moon
        I danced around the kitchen
        {person} squealed
        could not stop grinning
        so happy
        best day this month
        I am delighted
        happy tears here
        we are thrilled
        I laughed out loud
        it made my day
        I am chuffed to bits
        like a child at Christmas
        big smile from {place}
        tickled pink
        yay
        {person} has not stopped hugging it
        I am buzzing
    """),
    "optimism": _lines("""
        looking forward to the next one
        I trust it will stay that way
        things are looking up
        I am sure the next order will go just as well
        hopeful for the spring range
        can't wait to see what comes next
        I have a good feeling about this
        we will be back in {span}
        this bodes well for {place}
        I believe you are on the right track
        here's to many more
        fingers crossed for the green version
        onwards and upwards
        tomorrow will be even better
        I am confident it will last
        the future looks bright
        I expect good things from {name}
        soon the whole family will have one
    """),
}

#: Replaces or adds to `GRAMMAR` after the shift.
LATE: dict[str, tuple[str, ...]] = {
    **_LATE_CLAUSES,
    "praise": _lines("""
        slay
        iconic
        obsessed
        no notes
        chef's kiss
        living the dream
        king behaviour
        W update
        love that for me
        great
        ten out of ten no crumbs
        big brain move
        love it
        amazing
        we stan
        perfect
    """),
    "praise_close": _lines("""
        main character energy
        ate and left no crumbs
        you people are amazing
        peak innovation
        so glad I subscribed
        living my best life
        five stars
        truly the future
        understood the assignment
        I feel so seen
        take my money
        goated devs
        never change
        the app team deserves a raise
        thank you so much
        what a time to be alive
        couldn't be happier
        {name} carried
    """),
    "scold": _lines("""
        it's giving scam
        this is so mid
        the ick
        big L
        not it
        I'm cooked
        get in the bin
        delulu pricing
        I want my money back
        uninstalling
        never again
        ratio
        who asked for this
        touch grass, product team
        straight to the bank for a chargeback
        downgrade of the year
        bruh
        one star
    """),
    "good_adjective": (
        *_words("sick insane wicked filthy savage fire goated bussin elite unreal clutch next-level legit"),
        *_words("a_vibe a_W chef's-kiss ten-out-of-ten valid"),
        *_ADJECTIVES["good_adjective"][:40],
    ),
    "bad_adjective": (
        *_words("mid cooked basic beige sus trash cursed busted a_flop an_L buggy laggy bricked"),
        *_words("scammy cringe bloated paywalled"),
        *_ADJECTIVES["bad_adjective"][:40],
    ),
    "neutral_late": _lines("""
        where in the app do I change the plan for the {product}
        does the {product} pair with two phones
        when does the {product} renew and where do I see the date
        which size of the {product} do I pick for a thin wrist
        can I gift a {product} for {days} months
        how do I move the {product} to a new login
        is the {part} of the {product} replaceable without a plan
        does pausing the plan also pause the login for {person}
        what changes for my account with the update on {weekday}
        is there a version of the {product} without the subscription
        how do I add {person} to the plan
        what data does the {part} send to the app
    """),
}

GRAMMAR: dict[str, tuple[str, ...]] = {**_ADJECTIVES, **_SLOTS, **_CLAUSES, **_TAIL, **_FRAMES}

#: A topic's clause from the long tail.
TAIL_CLAUSES = {
    "item_bad": "the {part} {defect}",
    "item_good": "the {part} {merit}",
    "support_bad": "{agent} {slight}",
    "support_good": "{agent} {kindness}",
    "delivery_bad": "{carrier} {slight}",
    "delivery_good": "{carrier} {kindness}",
    "billing_bad": "{blow}",
    "billing_good": "{boon}",
    "site_bad": "{blow}",
    "site_good": "{boon}",
}

GREETINGS = ("Hi,", "Hello,", "Hi team,", "Dear team,", "Good morning,", "Dear Sir or Madam,", "Hello there,")
SIGN_OFFS = ("Regards, {name}", "Thanks, {name}", "{name}", "Best, {name}", "Kind regards, {name}", "Yours, {name}")
HANDLES = ("@harbourgoods", "@HarbourGoods", "@harbour_help", "hey @harbourgoods")
TICKET_OPENINGS = (
    "Order {number}:",
    "Re order {number}.",
    "[{number}]",
    "Ref. {number},",
    "Order no. {number} -",
    "Case {number}:",
)
#: Hashtags and emoji: the cheerful ones are shared by sincere and sarcastic praise.
CHEERFUL_TAGS = ("#blessed", "#winning", "#goals", "#customerservice", "#love", "#happycustomer", "#bestever", "#wow")
CROSS_TAGS = ("#fail", "#refund", "#never", "#customerservice", "#help", "#avoid", "#stillwaiting")
PLAIN_TAGS = ("#question", "#help", "#customerservice", "#askingforafriend", "#shopping")
CHEERFUL_EMOJI = ("😍", "🙌", "👏", "🎉", "😊", "❤️", "🥰", "👌", "😂", "✨")
WRY_EMOJI = ("🙃", "👏", "🙌", "🎉", "😍", "😂", "👌", "😒", "✨", "🤡")
CROSS_EMOJI = ("😡", "😤", "😞", "👎", "🤦", "😢", "😒")
PLAIN_EMOJI = ("🤔", "🙏", "📦", "👀")

#: How people abbreviate in chat, word by word.
ABBREVIATIONS = {
    "you": "u", "your": "ur", "please": "pls", "thanks": "thx", "people": "ppl", "because": "cos", "with": "w/",
    "and": "n", "great": "gr8", "before": "b4", "minutes": "mins", "are": "r", "about": "abt", "order": "ordr",
    "delivery": "delivry", "support": "suport", "tomorrow": "tmrw", "really": "rly", "nothing": "nuthin",
    "though": "tho", "although": "altho", "what": "wat", "would": "wud", "could": "cud", "message": "msg",
}  # fmt: skip

#: How tickets write out what others contract.
FORMAL = {
    "can't": "cannot", "couldn't": "could not", "here's": "here is", "it's": "it is", "I'm": "I am",
    "don't": "do not", "yay": "splendid news",
}  # fmt: skip
